"""The name and the thresholds of every rule by its code; written by `make rules`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

RuleTable = Mapping[str, tuple[str, Sequence[str]]]

RULE_TABLE: RuleTable = {
    "SG101": (
        "vanishing-gradient",
        [
            "max_total_gain",
            "max_visible_gain",
            "max_gain",
            "steep_gain",
            "min_goodness",
            "min_layers",
            "min_steps",
            "window",
            "min_slow_steps",
            "slow_window",
            "min_steps_at_end",
            "recovered_share",
            "flat_steps",
            "max_leverage",
            "guess_distance",
            "max_time_gain",
            "min_looks",
            "min_samples",
            "min_time_steps",
            "stuck_loss",
        ],
    ),
    "SG102": (
        "exploding-gradient",
        [
            "min_gain",
            "min_total_gain",
            "min_signal_gain",
            "min_total_signal_gain",
            "min_goodness",
            "min_layers",
            "min_steps",
            "window",
            "first_steps",
            "min_growth",
            "unbounded",
            "high_steps",
            "baseline_steps",
            "rising_steps",
            "min_rising_steps",
            "min_rising_goodness",
            "min_norm",
            "min_update",
            "min_first_loss",
            "min_exponential",
            "max_time_gain",
            "min_looks",
            "min_samples",
            "stuck_loss",
            "min_finite_steps",
        ],
    ),
    "SG103": (
        "gradient-spike",
        [
            "window",
            "first_steps",
            "min_factor",
            "min_deviations",
            "above_largest",
            "min_loss_deviations",
            "min_alone",
            "leap",
            "min_with_leap",
            "harmless",
            "longest",
            "short",
            "settles",
            "again",
            "part",
            "small",
        ],
    ),
    "SG104": (
        "dead-units",
        [
            "min_share",
            "stuck_loss",
            "min_stuck_share",
            "num_samples",
            "min_seen",
            "min_loss",
            "min_rows",
            "min_evaluated",
            "min_cut_off",
            "min_signal",
        ],
    ),
    "SG105": (
        "gradient-underflow",
        [
            "min_share",
            "max_below",
            "num_samples",
            "min_loss",
            "min_evaluated",
        ],
    ),
    "SG106": (
        "lost-updates",
        [
            "min_evaluated",
            "min_unmoved",
            "num_groups",
            "min_mostly",
            "num_mostly",
            "min_fall",
        ],
    ),
    "SG107": (
        "update-too-large",
        [
            "min_evaluated",
            "min_ratio",
            "thrown_up",
            "high_ratio",
            "raised",
            "peak",
            "lasting_ratio",
            "lasting",
            "stuck_groups",
            "stuck_share",
            "usual_noise",
            "wrecking_ratio",
            "wrecked_share",
            "max_growth",
        ],
    ),
    "SG108": (
        "update-too-small",
        [
            "min_evaluated",
            "max_ratio",
            "num_groups",
            "min_fall",
            "max_lr",
            "max_plain_lr",
            "min_slope",
            "min_contrast",
            "max_decay",
            "min_share",
            "min_loss",
        ],
    ),
    "SG109": (
        "zero-gradient",
        [
            "in_a_row",
            "later",
            "min_evaluated",
        ],
    ),
    "SG110": (
        "symmetric-units",
        [
            "min_evaluated",
            "looks",
        ],
    ),
    "SG111": (
        "weight-decay-dominates",
        [
            "min_evaluated",
            "min_ratio",
            "in_a_row",
            "max_left",
            "min_loss",
            "risen",
        ],
    ),
    "SG112": (
        "moves-without-gradient",
        [
            "min_evaluated",
            "min_steps",
            "min_share",
            "min_moves",
            "max_ended",
        ],
    ),
    "SG113": (
        "schedule-mismatch",
        [
            "min_evaluated",
            "zero_calls",
            "zero_share",
            "swings",
            "turns",
            "low_share",
            "unfinished",
            "tolerance",
            "min_made",
            "near",
            "moved",
            "max_factor",
            "warm_up",
            "warm_up_calls",
            "min_growth",
            "max_growth",
            "left_calls",
        ],
    ),
    "SG114": (
        "high-first-loss",
        [
            "min_evaluated",
            "min_times",
            "min_above",
            "large_gain",
            "large_input",
            "large_growth",
        ],
    ),
    "SG201": (
        "nonfinite-gradient",
        [
            "max_skips",
            "max_scale",
        ],
    ),
    "SG202": (
        "nonfinite-loss",
        [
            "max_skips",
        ],
    ),
    "SG203": (
        "skipped-steps",
        [
            "min_skips",
            "min_share",
            "min_scale",
        ],
    ),
    "SG204": (
        "scaler-remade",
        [
            "min_evaluated",
            "min_made",
            "min_skips",
            "min_share",
        ],
    ),
    "SG301": (
        "missing-zero-grad",
        [
            "min_scattered",
            "min_share",
            "min_evaluated",
        ],
    ),
    "SG302": (
        "zero-grad-before-step",
        [
            "in_a_row",
            "scattered",
            "share",
            "min_same",
        ],
    ),
    "SG303": (
        "step-without-backward",
        [
            "in_a_row",
            "scattered",
            "stopped",
            "share",
            "min_evaluated",
        ],
    ),
    "SG304": (
        "clip-without-effect",
        [
            "in_a_row",
            "scattered",
            "share",
            "max_limit",
        ],
    ),
    "SG305": (
        "clip-before-unscale",
        [
            "max_limit",
            "max_share",
            "num_clips",
        ],
    ),
    "SG306": (
        "step-without-unscale",
        [
            "num_steps",
        ],
    ),
    "SG307": (
        "accumulation-not-scaled",
        [
            "in_a_row",
            "tolerance",
            "min_ratio",
            "min_distinctness",
        ],
    ),
    "SG308": (
        "partial-window",
        [
            "min_whole",
            "max_share",
            "tolerance",
        ],
    ),
    "SG309": (
        "uneven-accumulation",
        [
            "in_a_row",
            "scattered",
            "share",
            "min_ratio",
            "tolerance",
        ],
    ),
    "SG310": (
        "gradient-rescaled",
        [
            "in_a_row",
            "tolerance",
            "min_count",
        ],
    ),
    "SG311": (
        "never-stepped",
        [
            "min_evaluated",
            "min_backwards",
            "min_by_hand",
        ],
    ),
    "SG312": (
        "uneven-windows",
        [
            "min_large",
            "min_share",
            "max_share",
            "regular",
            "min_predicted",
        ],
    ),
    "SG313": (
        "foreign-gradient",
        [
            "in_a_row",
        ],
    ),
    "SG401": (
        "parameter-not-optimized",
        [
            "min_steps",
            "min_evaluated",
        ],
    ),
    "SG402": (
        "no-gradient",
        [
            "min_steps",
            "min_evaluated",
            "min_copied",
        ],
    ),
    "SG403": (
        "frozen-parameter",
        [
            "min_steps",
            "min_evaluated",
            "max_share",
            "max_tail_share",
            "max_trained_share",
            "min_frozen_share",
            "min_losses",
            "min_drop",
        ],
    ),
    "SG404": (
        "optimizer-remade",
        [
            "min_evaluated",
            "min_made",
            "max_life",
            "min_rate",
        ],
    ),
    "SG405": (
        "in-two-optimizers",
        [
            "min_evaluated",
            "min_times",
        ],
    ),
    "SG406": (
        "parameter-remade",
        [
            "min_evaluated",
            "min_times",
        ],
    ),
    "SG407": (
        "weights-overwritten",
        [
            "min_evaluated",
            "min_times",
            "min_undone",
        ],
    ),
    "SG408": (
        "left-in-eval-mode",
        [
            "min_evaluated",
            "min_steps",
            "min_share",
        ],
    ),
    "SG409": (
        "stale-copy",
        [
            "min_evaluated",
            "min_times",
            "min_steps",
            "min_rounded_steps",
            "min_share",
        ],
    ),
    "SG410": (
        "search-weights-kept",
        [
            "min_raised",
            "max_raised",
            "min_growth",
            "min_blown",
            "min_fall",
            "min_left",
        ],
    ),
    "SG411": (
        "same-random-numbers",
        [
            "min_evaluated",
            "min_looks",
        ],
    ),
    "SG412": (
        "restored-nothing",
        [
            "min_evaluated",
        ],
    ),
    "SG413": (
        "momentum-is-gradient",
        [
            "min_evaluated",
            "min_looks",
        ],
    ),
    "SG501": (
        "clipping-saturated",
        [
            "window",
            "min_share",
            "min_ratio",
            "max_update",
            "min_adaptive_ratio",
            "max_scalar",
            "min_pull",
            "min_times",
            "num_looks",
        ],
    ),
    "SG502": (
        "clip-norm-disagrees",
        [
            "tolerance",
            "num_steps",
            "min_share",
            "min_missing_steps",
            "min_covered",
        ],
    ),
    "SG503": (
        "clip-before-normalised-update",
        [
            "window",
            "min_share",
        ],
    ),
    "SG504": (
        "clip-governed-by-one",
        [
            "window",
            "min_share",
            "min_part",
            "min_others",
        ],
    ),
    "SG601": (
        "task-conflict",
        [
            "max_cosine",
            "min_share",
            "min_samples",
        ],
    ),
    "SG602": (
        "task-dominance",
        [
            "min_ratio",
            "min_share",
            "min_samples",
            "wrecking_ratio",
            "min_wrecked",
            "min_times",
            "num_looks",
            "min_posteriors",
            "max_divergence",
            "min_collapsing",
        ],
    ),
    "SG701": (
        "replica-drift",
        [
            "num_checks",
        ],
    ),
    "SG702": (
        "rank-outlier",
        [
            "min_ratio",
            "min_share",
            "min_steps",
        ],
    ),
    "SG801": (
        "wrong-loss-input",
        [
            "min_evaluated",
            "min_sightings",
        ],
    ),
    "SG802": (
        "constant-loss-term",
        [
            "min_evaluated",
            "min_share",
            "num_looks",
            "min_change",
        ],
    ),
    "SG803": (
        "sample-without-gradient",
        [
            "min_evaluated",
            "min_checks",
            "min_routed",
        ],
    ),
    "SG804": (
        "wrong-attention-mask",
        [
            "min_evaluated",
        ],
    ),
    "SG805": (
        "recurrence-over-batch",
        [
            "min_evaluated",
        ],
    ),
    "SG806": (
        "undetached-advantage",
        [
            "min_evaluated",
            "min_discount",
        ],
    ),
    "SG807": (
        "detached-state",
        [
            "min_evaluated",
            "min_steps",
        ],
    ),
    "SG808": (
        "falling-loss-weight",
        [
            "min_evaluated",
            "min_sightings",
            "max_left",
        ],
    ),
    "SG809": (
        "lost-additions",
        [
            "min_evaluated",
        ],
    ),
    "SG810": (
        "first-ratio-not-one",
        [
            "min_evaluated",
            "min_share",
        ],
    ),
}
