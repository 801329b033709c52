"""`sono export shards`: a split of a workspace as tar shards for `sono train`."""

from dataclasses import dataclass
from pathlib import Path

from sono.curation.core.atomic_folders import new_folder
from sono.curation.core.errors import SonoError
from sono.curation.core.workspace import Workspace
from sono.curation.privacy.gate import check_folder
from sono.training.config import TrainingConfig
from sono.training.data.shard_records import ShardOrigin
from sono.training.data.shards import write_shards
from sono.training.inputs import load_split, template_set, usable_images
from sono.training.model.mask_clip import MaskClip
from sono.training.start import start_of


@dataclass(frozen=True)
class ShardSummary:
    """The counts and sizes of the written shards."""

    shards: int
    pairs: int
    regions: int
    image_size: int
    patients: int
    megabytes: float
    private_strings: int


def export_shards(
    workspace: Workspace,
    out: Path,
    config: TrainingConfig,
    split: str = "train",
    pairs_per_shard: int = 1024,
    no_vault: bool = False,
) -> ShardSummary:
    """Write the captioned frames of `split` as a run of these settings would see them.

    Frames of held-out centers are left out. Raises SonoError if there is nothing to write, `out` is
    not a new or empty folder, or private text cannot be searched for (unless `no_vault`); raises
    PrivacyError if something private is found.
    """
    workspace.require_vault(no_vault)
    workspace.check_new_folder(out)
    images = usable_images(workspace, workspace.accepted_images(), config)
    template = template_set(workspace)
    side = MaskClip.side_of(start_of(workspace, config).config)
    pairs = load_split(workspace, images[images["split"] == split], config, template, side)
    if not len(pairs):
        raise SonoError(
            f"{workspace.root}: no captioned frame in split '{split}'; run `sono captions build`"
        )
    source = ShardOrigin(
        template=template,
        split=split,
        key_check=workspace.study().key_check,
        hold_out=config.hold_out,
        mask_states=config.mask_states,
    )
    with new_folder(out) as new:
        shards = write_shards(pairs, new, source, pairs_per_shard)
        return ShardSummary(
            shards=len(shards.names),
            pairs=len(shards),
            regions=shards.regions,
            image_size=side,
            patients=len(shards.contents.patients),
            megabytes=sum(path.stat().st_size for path in new.iterdir()) / 1e6,
            private_strings=check_folder(workspace, new),
        )
