"""python -m demo.space OWNER/NAME: push this checkout to a Hugging Face Space. Contacts huggingface.co, because you asked it to."""

import subprocess
import sys
from collections.abc import Sequence

from demo.settings import ROOT
from index_builder.vocabulary import MajlisError


def tracked_files() -> list[str]:
    """What git knows: a Space gets nothing that is not in the repository."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if listed.returncode:
        raise MajlisError(f"{ROOT} is not a git checkout, so it cannot be told which files belong to Majlis. Clone the repository first.")
    return [name for name in listed.stdout.decode().split("\0") if name]


def push(space: str) -> str:
    """Create the Space if need be and upload; files over 10 MB go through Xet by themselves. Returns its address."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    api = HfApi()
    try:
        address = api.create_repo(space, repo_type="space", space_sdk="gradio", exist_ok=True)
        api.upload_folder(folder_path=ROOT, repo_id=space, repo_type="space", allow_patterns=tracked_files(), commit_message="Majlis")
    except (HfHubHTTPError, OSError, ValueError) as error:
        raise MajlisError(
            f"The Space {space} was not updated ({error}). Log in with `hf auth login`, check the name, and run the same command again."
        ) from error
    return str(address)


def main(arguments: Sequence[str] | None = None) -> int:
    given = sys.argv[1:] if arguments is None else arguments
    if len(given) != 1 or given[0].count("/") != 1:
        print("error: give the name of the Space: make space SPACE=you/majlis", file=sys.stderr)
        return 2
    try:
        print(push(given[0]))
    except MajlisError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
