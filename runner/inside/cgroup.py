"""Control groups: which devices may be used, and limits."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from runner.inside.request import LimitsRequest


class Group:
    """The groups of one sandbox."""

    def __init__(self) -> None:
        self.joins: list[int] = []
        self.filters_devices = False

    def ran_out_of_memory(self) -> bool:
        return False

    def remove(self) -> None:
        pass


class Shared:
    """The groups of a zygote."""

    def join(self, limits: LimitsRequest) -> Group:
        del limits
        return Group()
