"""The conversation, at run time: a question in, typed events out, and the page that shows them."""
