"""What a garbage collection did, or would do."""

from llmops_assets.domain.models import Frozen


class Item(Frozen):
    """Something that was collected, or would be."""

    kind: str
    name: str
    bytes: int
    why: str


class Report(Frozen):
    dry_run: bool
    items: tuple[Item, ...]
    roots: tuple[str, ...]
    """Why other results stay."""
    left: tuple[str, ...]
    """What could not be judged, and was therefore left alone."""

    @property
    def bytes(self) -> int:
        return sum(item.bytes for item in self.items)
