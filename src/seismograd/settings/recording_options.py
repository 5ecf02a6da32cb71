"""What `seismograd run` and `watch` can be asked for: the same in every process of a run."""

from __future__ import annotations

from dataclasses import dataclass, field

from seismograd.settings.elements import ElementSpec
from seismograd.settings.levels import NORMAL
from seismograd.settings.record_settings import RecordSettings
from seismograd.settings.resume_request import ResumeRequest
from seismograd.settings.rule_selection import RuleSelection
from seismograd.settings.snapshot_plan import SnapshotPlan
from seismograd.settings.tracker_options import TrackerOption


@dataclass(frozen=True, slots=True)
class RecordingOptions:
    """`elements` are single scalars to record. `budget`: share of the time that watching may take;
    `None` for the usual one. `replay`: a model may be called once more to find where a NaN arose.
    `record`: how it is written. `guard`: harmful updates are left out. `snapshots`: when whole
    gradients are kept. `every`: gradients are measured at every so many steps. `trackers`: where
    the numbers go besides the record. `resume`: the record of an earlier training goes on. It is
    pickled for processes that the script starts.
    """

    elements: tuple[ElementSpec, ...] = ()
    level: str = NORMAL
    selection: RuleSelection = field(default_factory=RuleSelection)
    budget: float | None = None
    replay: bool = True
    record: RecordSettings = field(default_factory=RecordSettings)
    guard: bool = False
    snapshots: SnapshotPlan | None = None
    trackers: tuple[TrackerOption, ...] = ()
    every: int = 1
    resume: ResumeRequest | None = None
