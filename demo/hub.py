"""Models on disk and on the Hugging Face Hub. Touches the network only inside `fetch`; elsewhere generate/remote.py and space.py do."""

import json
import shutil
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

from demo.settings import ROOT, Model, ModelFile, Settings
from index_builder.digest import file_sha256
from index_builder.vocabulary import MajlisError

_RECORD = "verified.json"  # per model: {path: sha256} of files that were checked; a file enters it only when it is whole
_COMMIT = "@commit"  # beside those paths: the commit of the first file, from which all the others must come
_NOT_CHECKED = "not checked: no sha256 in models.toml"


class HubError(MajlisError):
    """A model that is not there, not whole, or could not be fetched."""


def folder_of(model: Model, settings: Settings) -> Path:
    """Where the files of a model lie, or would lie after a fetch."""
    if model.folder:
        return Path(model.folder) if Path(model.folder).is_absolute() else ROOT / model.folder
    return settings.cache / model.name


def on_disk(model: Model, settings: Settings) -> bool:
    folder = folder_of(model, settings)
    if model.folder:
        return folder.exists()
    return bool(model.files) and all((folder / file.path).is_file() and file.path in _read_record(folder) for file in model.files)


def require(model: Model, settings: Settings) -> Path:
    """The folder of a model that is on disk. Raises HubError with the command that fetches it."""
    if not on_disk(model, settings):
        if model.folder:
            raise HubError(
                f"{folder_of(model, settings)} is missing. It ships with Majlis: restore it from the repository (git checkout -- {model.folder})."
            )
        size = f", about {model.bytes / 1e9:.2f} GB" if model.bytes else ""
        raise HubError(
            f"The model {model.name} is not on this computer ({model.licence}{size}). Fetch it with: python -m demo models fetch {model.name}"
        )
    return folder_of(model, settings)


def gguf_of(model: Model, settings: Settings) -> Path:
    """The GGUF file of a local generator."""
    folder = require(model, settings)
    if folder.is_file():
        return folder
    found = sorted(folder.glob("*.gguf"))
    if not found:
        raise HubError(f"{folder} holds no .gguf file for the generator {model.name}.")
    return found[0]


def fetch(model: Model, settings: Settings, say: Callable[[str], None] = print, endpoint: str | None = None) -> Path:
    """Download what is missing of a model, check it, and return its folder.

    An interrupted download goes on where it stopped; a file takes its final name only when it is whole and its sha256 is
    right. All files come from the commit of the first one, also when the repository moves on before a later call. Raises HubError when offline, when the disk is too small, when the Hub does not answer, or when a hash is wrong.
    """
    if model.folder or not model.repo:
        return require(model, settings)
    if settings.offline:
        raise HubError(f"Majlis was started with --offline, so {model.name} was not fetched. Start it without --offline to download.")
    from httpx2 import HTTPError  # what huggingface-hub lets through when a connection breaks

    folder = folder_of(model, settings)
    folder.mkdir(parents=True, exist_ok=True)
    record = _read_record(folder)
    for file in model.files:  # whole files whose record was lost
        if file.path not in record and file.sha256 and (folder / file.path).is_file() and file_sha256(folder / file.path) == file.sha256:
            record[file.path] = file.sha256
            _write_record(folder, record)
    missing = [file for file in model.files if not ((folder / file.path).is_file() and file.path in record)]
    needed, free = sum(file.bytes for file in missing), shutil.disk_usage(folder).free
    if needed > free:
        raise HubError(
            f"{model.name} needs {needed / 1e9:.1f} GB and {folder} has {free / 1e9:.1f} GB free. Free space, or set MAJLIS_MODELS to another disk."
        )
    incoming = folder / ".incoming"
    for number, file in enumerate(missing, 1):
        say(f"{model.name}: file {number} of {len(missing)}, {file.path}{f', about {file.bytes / 1e6:,.0f} MB' if file.bytes else ''}")
        try:
            arrived, commit = _download(model, file, record.get(_COMMIT) or model.revision, incoming, endpoint)
        except (HTTPError, OSError, ValueError) as error:
            raise HubError(
                f"{file.path} of {model.repo} could not be fetched ({error}). What arrived is kept; run the same command again to go on."
            ) from error
        record[file.path] = _checked(model, file, arrived, record.get(file.path, ""))
        target = folder / file.path
        target.parent.mkdir(parents=True, exist_ok=True)
        arrived.replace(target)
        if commit:
            record.setdefault(_COMMIT, commit)
        _write_record(folder, record)
    shutil.rmtree(incoming, ignore_errors=True)
    say(f"{model.name}: complete in {folder}")
    return folder


def verify(model: Model, settings: Settings) -> list[str]:
    """What is wrong with the files of a model that is on disk, or could not be checked; an empty list when nothing is."""
    folder = folder_of(model, settings)
    if model.folder and not folder.exists():
        return [f"{folder} is missing"]
    if model.folder and not model.files:
        return [_NOT_CHECKED]
    record = {} if model.folder else _read_record(folder)
    problems = []
    for file in model.files:
        expected = file.sha256 or record.get(file.path, "")
        if not (folder / file.path).is_file():
            problems.append(f"{file.path} is missing")
        elif model.folder and not expected:
            problems.append(f"{file.path} {_NOT_CHECKED}")
        elif file_sha256(folder / file.path) != expected:
            problems.append(f"{file.path} is not the file that {'ships' if model.folder else 'was fetched'} (sha256 differs)")
    return problems


def _download(model: Model, file: ModelFile, revision: str, incoming: Path, endpoint: str | None) -> tuple[Path, str]:
    """The file under a name of its version in `incoming`, going on where an earlier call stopped, and the commit it is of.

    hf_hub_download would throw the arrived part away: since huggingface-hub 2 it writes to a name that no later call looks for.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_url, try_to_load_from_cache
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import WeakFileLock, build_hf_headers

    incoming.mkdir(parents=True, exist_ok=True)
    cached = try_to_load_from_cache(model.repo, file.path, revision=revision)
    if isinstance(cached, str):  # a Space puts it there when it is built (preload_from_hub), as snapshots/COMMIT/PATH
        commit = Path(cached).parts[-1 - len(Path(file.path).parts)]
        return Path(shutil.copy(cached, incoming / Path(file.path).name)), commit
    found = get_hf_file_metadata(hf_hub_url(model.repo, file.path, revision=revision, endpoint=endpoint), endpoint=endpoint)
    # by its commit, because a branch may move between the two requests
    url = hf_hub_url(model.repo, file.path, revision=found.commit_hash or revision, endpoint=endpoint)
    version = sha256(f"{file.path} {found.commit_hash} {found.etag}".encode()).hexdigest()  # bytes of two versions must not be mixed
    part = incoming / version[:32]
    with WeakFileLock(incoming / f"{part.name}.lock"), part.open("ab") as out:
        http_get(url, out, resume_size=out.tell(), headers=build_hf_headers(), expected_size=found.size, displayed_filename=file.path)
    return part, found.commit_hash or ""


def _checked(model: Model, file: ModelFile, arrived: Path, recorded: str) -> str:
    found = file_sha256(arrived)
    if file.sha256 and found != file.sha256:
        arrived.unlink()
        raise HubError(
            f"{file.path} of {model.repo} has sha256 {found}, models.toml says {file.sha256}. The file was discarded. "
            "If its makers published a new version on purpose, put its hash into models.toml."
        )
    if not file.sha256 and recorded and found != recorded:
        arrived.unlink()
        raise HubError(
            f"{file.path} of {model.repo} has sha256 {found}; at the first download it had {recorded}. The file was discarded. "
            "If its makers published a new version on purpose, put its hash into models.toml."
        )
    return found


def _read_record(folder: Path) -> dict[str, str]:
    path = folder / _RECORD
    try:
        return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}
    except (ValueError, TypeError) as error:
        raise HubError(f"{path} cannot be read ({error}). Delete it and fetch the model again; whole files are recognised.") from error


def _write_record(folder: Path, record: dict[str, str]) -> None:
    partial = folder / f"{_RECORD}.partial"
    partial.write_text(json.dumps(record, indent=1), encoding="utf-8")
    partial.replace(folder / _RECORD)
