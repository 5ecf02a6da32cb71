"""The list of rules: what can be wrong with a training, judged from its record. To add a rule: one
file, and one line in `RULES`.
"""

from __future__ import annotations

from seismograd.diagnosis.rule import Rule
from seismograd.rules.sg101.sg101_vanishing_gradient import VanishingGradient
from seismograd.rules.sg102.sg102_exploding_gradient import ExplodingGradient
from seismograd.rules.sg103.sg103_gradient_spike import GradientSpike
from seismograd.rules.sg104.sg104_dead_units import DeadUnits
from seismograd.rules.sg105.sg105_gradient_underflow import GradientUnderflow
from seismograd.rules.sg106_lost_updates import LostUpdates
from seismograd.rules.sg107_update_too_large import UpdateTooLarge
from seismograd.rules.sg108_update_too_small import UpdateTooSmall
from seismograd.rules.sg109_zero_gradient import ZeroGradient
from seismograd.rules.sg110_symmetric_units import SymmetricUnits
from seismograd.rules.sg111_weight_decay_dominates import WeightDecayDominates
from seismograd.rules.sg112.sg112_moves_without_gradient import MovesWithoutGradient
from seismograd.rules.sg113_schedule_mismatch import ScheduleMismatch
from seismograd.rules.sg114_high_first_loss import HighFirstLoss
from seismograd.rules.sg201.sg201_nonfinite_gradient import NonfiniteGradient
from seismograd.rules.sg202_nonfinite_loss import NonfiniteLoss
from seismograd.rules.sg203_skipped_steps import SkippedSteps
from seismograd.rules.sg204_scaler_remade import ScalerRemade
from seismograd.rules.sg301.sg301_missing_zero_grad import MissingZeroGrad
from seismograd.rules.sg302_zero_grad_before_step import ZeroGradBeforeStep
from seismograd.rules.sg303_step_without_backward import StepWithoutBackward
from seismograd.rules.sg304_clip_without_effect import ClipWithoutEffect
from seismograd.rules.sg305_clip_before_unscale import ClipBeforeUnscale
from seismograd.rules.sg306_step_without_unscale import StepWithoutUnscale
from seismograd.rules.sg307_accumulation_not_scaled import AccumulationNotScaled
from seismograd.rules.sg308_partial_window import PartialWindow
from seismograd.rules.sg309_uneven_accumulation import UnevenAccumulation
from seismograd.rules.sg310_gradient_rescaled import GradientRescaled
from seismograd.rules.sg311_never_stepped import NeverStepped
from seismograd.rules.sg312_uneven_windows import UnevenWindows
from seismograd.rules.sg313_foreign_gradient import ForeignGradient
from seismograd.rules.sg401.sg401_parameter_not_optimized import ParameterNotOptimized
from seismograd.rules.sg402.sg402_no_gradient import NoGradient
from seismograd.rules.sg403.sg403_frozen_parameter import FrozenParameter
from seismograd.rules.sg404_optimizer_remade import OptimizerRemade
from seismograd.rules.sg405_in_two_optimizers import InTwoOptimizers
from seismograd.rules.sg406_parameter_remade import ParameterRemade
from seismograd.rules.sg407_weights_overwritten import WeightsOverwritten
from seismograd.rules.sg408_left_in_eval_mode import LeftInEvalMode
from seismograd.rules.sg409_stale_copy import StaleCopy
from seismograd.rules.sg410_search_weights_kept import SearchWeightsKept
from seismograd.rules.sg411_same_random_numbers import SameRandomNumbers
from seismograd.rules.sg412_restored_nothing import RestoredNothing
from seismograd.rules.sg413_momentum_is_gradient import MomentumIsGradient
from seismograd.rules.sg501_clipping_saturated import ClippingSaturated
from seismograd.rules.sg502.sg502_clip_norm_disagrees import ClipNormDisagrees
from seismograd.rules.sg503_clip_before_normalised_update import ClipBeforeNormalisedUpdate
from seismograd.rules.sg504_clip_governed_by_one import ClipGovernedByOne
from seismograd.rules.sg601_task_conflict import TaskConflict
from seismograd.rules.sg602_task_dominance import TaskDominance
from seismograd.rules.sg701.sg701_replica_drift import ReplicaDrift
from seismograd.rules.sg702_rank_outlier import RankOutlier
from seismograd.rules.sg801_wrong_loss_input import WrongLossInput
from seismograd.rules.sg802_constant_loss_term import ConstantLossTerm
from seismograd.rules.sg803_sample_without_gradient import SampleWithoutGradient
from seismograd.rules.sg804_wrong_attention_mask import WrongAttentionMask
from seismograd.rules.sg805_recurrence_over_batch import RecurrenceOverBatch
from seismograd.rules.sg806_undetached_advantage import UndetachedAdvantage
from seismograd.rules.sg807_detached_state import DetachedState
from seismograd.rules.sg808_falling_loss_weight import FallingLossWeight
from seismograd.rules.sg809_lost_additions import LostAdditions
from seismograd.rules.sg810_first_ratio_not_one import FirstRatioNotOne

RULES: tuple[type[Rule], ...] = (
    VanishingGradient,
    ExplodingGradient,
    GradientSpike,
    DeadUnits,
    GradientUnderflow,
    LostUpdates,
    UpdateTooLarge,
    UpdateTooSmall,
    ZeroGradient,
    SymmetricUnits,
    WeightDecayDominates,
    MovesWithoutGradient,
    ScheduleMismatch,
    HighFirstLoss,
    NonfiniteGradient,
    NonfiniteLoss,
    SkippedSteps,
    ScalerRemade,
    MissingZeroGrad,
    ZeroGradBeforeStep,
    StepWithoutBackward,
    ClipWithoutEffect,
    ClipBeforeUnscale,
    StepWithoutUnscale,
    AccumulationNotScaled,
    PartialWindow,
    UnevenAccumulation,
    GradientRescaled,
    NeverStepped,
    UnevenWindows,
    ForeignGradient,
    ParameterNotOptimized,
    NoGradient,
    FrozenParameter,
    OptimizerRemade,
    InTwoOptimizers,
    ParameterRemade,
    WeightsOverwritten,
    LeftInEvalMode,
    StaleCopy,
    SearchWeightsKept,
    SameRandomNumbers,
    RestoredNothing,
    MomentumIsGradient,
    ClippingSaturated,
    ClipNormDisagrees,
    ClipBeforeNormalisedUpdate,
    ClipGovernedByOne,
    TaskConflict,
    TaskDominance,
    ReplicaDrift,
    RankOutlier,
    WrongLossInput,
    ConstantLossTerm,
    SampleWithoutGradient,
    WrongAttentionMask,
    RecurrenceOverBatch,
    UndetachedAdvantage,
    DetachedState,
    FallingLossWeight,
    LostAdditions,
    FirstRatioNotOne,
)

__all__ = ["RULES", "Rule"]
