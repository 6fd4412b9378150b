"""What a command is pointed at: a model or a run on the disk, a name on the hub, or the name of a preset."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from glassformer.choices import suggestion

if TYPE_CHECKING:
    from glassformer.models import TransformerModel


def model_path(target: str) -> Path | None:
    """Where the model is: the target itself (a file, or a folder), or the best checkpoint of a run.

    None where there is no such path: the target may be a name on the hub.

    Raises:
        ValueError: a folder that holds neither a model nor a run.
    """
    path = Path(target)
    if not path.exists():
        return None
    if path.is_file() or (path / "config.json").exists():
        return path
    if (path / "checkpoints").is_dir():
        from glassformer.training.checkpoints import best_of_run

        return best_of_run(path)
    raise ValueError(f"{path} holds neither a model (config.json) nor a run (checkpoints)")


def model_name(target: str) -> str:
    """What a target is called in reports, however it was spelled: its folder's name and its own."""
    path = Path(target).resolve() if Path(target).exists() else Path(target)
    return "/".join((path.with_suffix("") if path.is_file() else path).parts[-2:]).strip("/")


def load_model(target: str) -> TransformerModel:
    """The model of a folder, a file or a name on the hub, ready to be used on the best device there is."""
    from glassformer.pretrained import from_pretrained
    from glassformer.training.devices import choose_device

    return from_pretrained(model_path(target) or target).to(choose_device("auto"))


def preset_or_model(target: str) -> TransformerModel:
    """A preset's shape without weights, or the model in a folder or file.

    Raises:
        ValueError: neither; names the nearest preset.
    """
    from glassformer.models import TransformerModel
    from glassformer.models.base import shapes_only
    from glassformer.pretrained import from_pretrained

    presets = {name: family for family in TransformerModel.families.values() for name in family.presets}
    if target in presets:
        with shapes_only():
            return presets[target].from_preset(target)
    path = model_path(target)
    if path is not None:
        return from_pretrained(path)
    near = suggestion(target, presets)
    raise ValueError(f"{target!r} is neither a folder nor a preset{near} (presets: {', '.join(presets)})")
