"""What a command is pointed at: a folder with a model, a run folder, or the name of a preset."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from glassformer.choices import suggestion

if TYPE_CHECKING:
    from glassformer.models import TransformerModel


def model_folder(target: str) -> Path:
    """The folder with ``config.json``: the target itself, or the best checkpoint of a run.

    Raises:
        ValueError: neither is there.
    """
    folder = Path(target)
    if (folder / "config.json").exists():
        return folder
    if (folder / "checkpoints").is_dir():
        from glassformer.training import Checkpoints

        checkpoints = Checkpoints(folder / "checkpoints")
        chosen = checkpoints.best() or checkpoints.latest()
        if chosen is not None:
            return chosen
        raise ValueError(f"the run in {folder} has no checkpoint yet")
    if not folder.exists():
        raise ValueError(f"there is no folder {target}: give one that holds a model or a run")
    raise ValueError(f"{folder} holds neither a model (config.json) nor a run (checkpoints)")


def load_model(target: str) -> TransformerModel:
    """The model in a folder, ready to be used on the best device there is."""
    from glassformer.models import TransformerModel
    from glassformer.training.devices import choose_device

    model = TransformerModel.from_pretrained(model_folder(target))
    return model.to(choose_device("auto"))


def preset_or_model(target: str) -> TransformerModel:
    """A preset's shape without weights, or the model in a folder.

    Raises:
        ValueError: neither; names the nearest preset.
    """
    import torch

    from glassformer.models import TransformerModel

    presets = {name: family for family in TransformerModel.families.values() for name in family.presets}
    if target in presets:
        with torch.device("meta"):
            return presets[target].from_preset(target)
    if Path(target).exists():
        return TransformerModel.from_pretrained(model_folder(target))
    near = suggestion(target, presets)
    raise ValueError(f"{target!r} is neither a folder nor a preset{near} (presets: {', '.join(presets)})")
