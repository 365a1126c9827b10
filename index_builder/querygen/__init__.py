"""Passages -> questions that they answer, and translation, by sequence-to-sequence models in CTranslate2 format or by a Llama."""
