"""Checkpoints to and from the Hugging Face Hub, by its own library and habits."""

import re
import shutil
from pathlib import Path

from torch import nn

from deconvnet.checkpoint import Config, find_checkpoint, save_checkpoint
from deconvnet.engines import Accelerated
from deconvnet.errors import CheckpointError, MissingExtraError, OutputError, UserError
from deconvnet.files import written_whole

FILES = ("model.safetensors", "config.json", "README.md")
"""What a checkpoint consists of, here and on the Hub."""


def save_pretrained(
    folder: str | Path, network: nn.Module, config: Config, *, origin: str | None = None
) -> Path:
    """Write a network as a checkpoint; one that was loaded keeps its model card.

    Args:
        folder: Made if it is missing.
        network: As it was trained; or an accelerated twin, which has no weights to save, so
            that the checkpoint it came from is copied.
        config: What describes the network.
        origin: The checkpoint that the network was loaded from.

    Raises:
        CheckpointError: For a twin of unknown origin.
        OutputError: If the place cannot be written.
    """
    folder = Path(folder)
    if not isinstance(network, Accelerated):
        card = Path(origin) / "README.md" if origin else None
        text = card.read_text(encoding="utf-8") if card and card.is_file() else ""
        return save_checkpoint(folder, network, config, card=text)
    if origin is None:
        raise CheckpointError(
            "an accelerated network has no weights to save; save the one that it was made from."
        )
    source = find_checkpoint(origin)
    for name in FILES:
        if (source / name).is_file() and source.resolve() != folder.resolve():
            with written_whole(folder / name) as temporary:
                shutil.copyfile(source / name, temporary)
    return folder


def push_to_hub(
    folder: str | Path, name: str, *, private: bool = False, token: str | None = None
) -> str:
    """Upload a checkpoint; the repository is made if it is not there.

    Args:
        folder: Of the checkpoint.
        name: owner/name.
        private: Whether a new repository is to be seen by its owner alone.
        token: To write with; if not given, the one that `hf auth login` has stored.

    Returns:
        The address of the commit.

    Raises:
        MissingExtraError: When huggingface_hub is not installed.
        CheckpointError: If the folder is no checkpoint.
        UserError: If the name is none, or the Hub refuses or cannot be reached.
    """
    folder = Path(folder)
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        raise UserError(f"'{name}' is no name on the Hub; give owner/name.")
    missing = [file for file in FILES if not (folder / file).is_file()]
    if missing:
        raise CheckpointError(
            f"{folder} has no {missing[0]}, so it is no checkpoint to upload."
        )
    try:
        from huggingface_hub import HfApi
        from huggingface_hub.errors import (
            HfHubHTTPError,
            HFValidationError,
            LocalTokenNotFoundError,
        )
    except ImportError:
        raise MissingExtraError("uploading to the Hub", "hub") from None
    api = HfApi(token=token)
    try:
        api.create_repo(name, private=private, exist_ok=True)
        commit = api.upload_folder(
            repo_id=name,
            folder_path=folder,
            allow_patterns=list(FILES),
            commit_message="Upload of deconvnet",
        )
    except (HfHubHTTPError, HFValidationError, LocalTokenNotFoundError, OSError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise OutputError(
            f"{name} could not be written on the Hub ({reason}); check the name, the network "
            "and the token (`hf auth login`)."
        ) from error
    return str(commit.commit_url)
