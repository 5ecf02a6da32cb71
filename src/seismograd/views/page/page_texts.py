"""Every text of the page, by the key that its scripts use; the page fills in `{named}` places."""

from __future__ import annotations

from seismograd.i18n import mark

TEXTS: dict[str, str] = {
    # the bar and the filters
    "skip": mark("skip to the charts"),
    "runs": mark("runs"),
    "runs_sub": mark("choose one run, or compare two"),
    "no_runs": mark("There are no runs here yet. Record one with: seismograd run train.py"),
    "compare": mark("compare"),
    "choose_two": mark("choose two runs in the list"),
    "in_both": mark("in both runs"),
    "only_there": mark("only in that run"),
    "no_pairs": mark("The two runs have no parameter in common, neither by name nor by shape."),
    "by_order": mark(
        "few names are common, so parameters are matched by order and shape ({number})"
    ),
    "against": mark("compared with {run}"),
    "run_live": mark("live"),
    "run_was_live": mark("still running when this was written"),
    "run_ended": mark("ended"),
    "run_broken": mark("not ended: killed, or no new data"),
    "steps_seen": mark("steps: {number} (last: {last})"),
    "tables": mark("tables"),
    "table": mark("table"),
    "table_of": mark("table: {panel}"),
    "copy_csv": mark("copy as CSV"),
    "copied": mark("Copied."),
    "not_copied": mark("The browser blocked copying."),
    "table_cut": mark("Showing the first 1,000 of {number} rows; the CSV copy has all of them."),
    "filter": mark("filter"),
    "filter_hint": mark("h.*.attn or /regular expression/"),
    "choose_sort": mark("sort by"),
    "sort_depth": mark("depth"),
    "sort_norm": mark("norm at the cursor"),
    "sort_trouble": mark("anomaly score"),
    "sort_name": mark("name"),
    "choose_group": mark("group by"),
    "group_0": mark("each parameter"),
    "group_1": mark("modules, 1 level"),
    "group_2": mark("modules, 2 levels"),
    "group_3": mark("modules, 3 levels"),
    "choose_kind": mark("show"),
    "kind_auto": mark("automatic (matrices if many)"),
    "kind_matrix": mark("matrices"),
    "kind_vector": mark("biases and norms"),
    "kind_all": mark("all"),
    "of_parameters": mark("parameters: {listed} of {all}"),
    "no_match": mark("No parameter matches the filter."),
    "no_steps": mark("No steps were recorded."),
    "loading": mark("Loading …"),
    "not_in_report": mark("This report does not contain this part; `seismograd view` shows it."),
    "picture": mark("chart over the steps"),
    "trouble_lost": mark(
        "The server is not responding. The page shows the data it has and keeps trying."
    ),
    "trouble_token": mark(
        "The server was restarted: open the address that it printed to continue."
    ),
    "trouble_report": mark(
        "The data of this report cannot be read: the file is incomplete, or the browser is too old."
    ),
    "trouble_widget": mark(
        "What the notebook holds of this run cannot be shown: run the cell again, or the browser "
        "is too old."
    ),
    "footer": mark("This page loaded nothing from the network."),
    "level": mark("level {level}"),
    # the diagnosis
    "diagnosis": mark("Is training healthy?"),
    "judged_now": mark("same result as `seismograd check`"),
    "judged_end": mark("evaluated during the run, up to its end"),
    "judged_running": mark("found during the run; `seismograd check` evaluates all of it"),
    "seismogram": mark("The seismogram"),
    "seismogram_sub": mark(
        "a trace per layer, the worst on top; the band is as high as the norm is large (flat: "
        "{smallest}, full: {largest}; right: its median); ▼ a finding; red: not finite"
    ),
    "verdict_nothing": mark("Nothing has been recorded yet."),
    "verdict_unjudged": mark("No rule could be evaluated on this run."),
    "verdict_quiet": mark("No problems were found during the run."),
    "verdict_found": mark("Found: {list}"),
    "severity_error": mark("error"),
    "severity_warning": mark("warning"),
    "severity_info": mark("info"),
    "step": mark("step {step}"),
    "steps": mark("steps {first} to {last}"),
    "and_more": mark("{names} and {number} more"),
    "change": mark("Change:"),
    "where": mark("Where:"),
    "seen_at": mark("Seen at:"),
    "explains": mark("explains {codes}"),
    "evidence": mark("evidence ({number})"),
    "all_parameters": mark("(all)"),
    "go_there": mark("go to the first step of this finding"),
    "rules_clear_head": mark("Rules without a finding: {number}"),
    "rules_blind_head": mark("Rules not evaluated: {number}"),
    "rules_blind": mark("{rule}: {reason}"),
    "timeline_label": mark("findings between steps {first} and {last}: {number}"),
    # the heat map
    "heat": mark("Where and when?"),
    "heat_what": mark("{statistic} of each parameter at each step, log scale"),
    "heat_difference": mark(
        "this run divided by the other, log scale; red means larger in this run"
    ),
    "heat_relative": mark(
        "{statistic} of each parameter, divided by its own median over the range shown"
    ),
    "heat_label": mark(
        "heat map over steps {first} to {last} (rows: {parameters}); the table lists the values"
    ),
    "column_shows_high": mark("each column covers up to {number} steps and shows the maximum"),
    "column_shows_low": mark("each column covers up to {number} steps and shows the minimum"),
    "column_shows_last": mark("each column covers up to {number} steps and shows the last value"),
    "choose_statistic": mark("statistic"),
    "choose_which": mark("value shown in each column"),
    "choose_scale": mark("colour scale"),
    "scale_all": mark("one scale for all"),
    "scale_row": mark("relative to each row's median"),
    "statistic_grad_norm": mark("gradient norm"),
    "statistic_applied_norm": mark("applied norm"),
    "statistic_update_ratio": mark("update / weights"),
    "which_high": mark("maximum"),
    "which_low": mark("minimum"),
    "which_last": mark("last"),
    "difference": mark("difference"),
    "zoom_in": mark("zoom in"),
    "zoom_out": mark("zoom out"),
    "whole_run": mark("whole run"),
    "state_0": mark("not measured"),
    "state_1": mark("no gradient"),
    "state_2": mark("all zero"),
    "state_3": mark("finite"),
    "state_4": mark("non-finite"),
    "legend_blank": mark("blank: not measured"),
    "legend_relative": mark("red is larger, blue is smaller"),
    "legend_scale": mark("brighter is larger"),
    "legend_mark": mark("▼ above: non-finite values"),
    # the profile
    "profile": mark("Why? The norm over depth"),
    "profile_label": mark(
        "gradient norms at step {step} from input to output (layers: {layers}); the table lists "
        "the values"
    ),
    "nearest_step": mark("the step in this report that is closest to {wanted}"),
    "nearest_kept": mark("the closest to step {wanted} whose numbers the notebook holds"),
    "no_layers": mark("The model trains no weight with two or more dimensions."),
    "gain": mark("Each of the {layers} layers multiplies the gradient by {gain} on average."),
    "gain_rest": mark(
        "Its norm is {last_norm} at {last} and {first_norm} at {first} (fit of the line: R² "
        "{goodness})."
    ),
    "gain_at": mark(
        "The line was fitted at step {step}, the last step at which most layers were finite."
    ),
    # gradients of single units as pictures
    "pictures": mark("Gradients of single units as pictures"),
    "pictures_at": mark("snapshot of step {step}"),
    "pictures_nearest": mark("snapshot of step {step}, the one closest to step {wanted}"),
    "pictures_none": mark("The snapshot of this weight cannot be read."),
    "pictures_plane": mark(
        "Each unit's gradient has {numbers} numbers, one per input, drawn as {height} × {width}"
    ),
    "pictures_planes": mark(
        "Each unit's gradient has {numbers} numbers, one per input, drawn as {planes} planes of "
        "{height} × {width}"
    ),
    "pictures_row": mark("Each row's gradient has {numbers} numbers, drawn as one line"),
    "pictures_shown": mark("shown: {shown} of {all}, the largest norm first"),
    "pictures_zero": mark("with a gradient of exactly zero: {number} of {all}"),
    "pictures_key": mark(
        "red: positive, blue: negative, on a scale of its own for each; grey: exactly 0"
    ),
    "pictures_bad": mark("magenta: NaN or infinite"),
    "pictures_label": mark("unit {unit}: norm {norm}, largest magnitude {largest}"),
    "pictures_unit": mark("unit"),
    "pictures_norm": mark("norm"),
    "pictures_max": mark("largest magnitude"),
    "pictures_zeros": mark("exactly 0"),
    "pictures_nonfinite": mark("non-finite"),
    "signal_gain": mark(
        "The signal that a layer passes back is multiplied by {gain} (measured at step {step}); "
        "the norm of its weights' gradient also depends on its input."
    ),
    "gain_none": mark("Too few layers have a gradient to fit a line."),
    "gain_band": mark("green: gain per layer from {low} to {high}"),
    "explain": mark("What {code} looks for, and when it is wrong"),
    "input": mark("input"),
    "output": mark("output"),
    # the signals of modules
    "signals": mark("Signals of modules"),
    "signals_at": mark("sampled at step {step}"),
    "signals_nearest": mark("sampled at step {step}, the sample closest to step {wanted}"),
    "signals_label": mark(
        "RMS of activations and of the backward signal at step {step}, over the modules in order "
        "of execution ({number}); the table lists the values"
    ),
    "signals_forward": mark("activation RMS"),
    "signals_backward": mark("backward signal RMS"),
    "signals_zero": mark("▬ on the base line: exactly 0"),
    # the scalars of the steps
    "scalars": mark("Norm, loss and learning rate"),
    "norms_label": mark(
        "total norm of the gradients before and after clipping, over the steps; the table lists "
        "the values"
    ),
    "losses_label": mark("loss and learning rate over the steps; the table lists the values"),
    "band_shows": mark("each point covers {number} steps and shows their minimum and maximum"),
    "before_clip": mark("norm"),
    "after_clip": mark("applied"),
    "clip_limit": mark("clip limit"),
    "scalar_loss": mark("loss"),
    "smoothed": mark("smoothed"),
    "loss_smoothed": mark("loss (thick: smoothed)"),
    "epoch_begins": mark("an epoch begins"),
    "resumed_here": mark("resumed from a checkpoint"),
    "scalar_lr": mark("learning rate"),
    "scalar_grad_norm": mark("total norm"),
    "scalar_applied_norm": mark("applied norm"),
    "scalar_clip_limit": mark("clip limit"),
    # the histogram
    "spread": mark("How are the scalars distributed?"),
    "spread_all": mark("all parameters together: the report contains no histogram of {parameter}"),
    "spread_label": mark(
        "scalars of {parameter} by powers of two, over the steps; the table lists the counts"
    ),
    "every_sample": mark("samples shown: one in {number}"),
    "no_samples": mark("No histogram was sampled in this range."),
    "limit_subnormal": mark("{dtype}: smallest subnormal 2^{exponent}"),
    "limit_normal": mark("{dtype}: smallest normal 2^{exponent}"),
    "limit_largest": mark("{dtype}: largest 2^{exponent}"),
    "limits_outside": mark("{dtype}: 2^{low} to 2^{high}, out of view"),
    # one parameter
    "parameter": mark("One parameter"),
    "parameter_label": mark("{parameter} over the steps; the table lists the values"),
    "element_label": mark("one scalar over the steps"),
    "no_optimizer": mark("no optimizer holds it"),
    "group_number": mark("parameter group {number}"),
    "computed_in": mark("computed in {dtype}"),
    "unmoved": mark("{share} unchanged"),
    "fact_shape": mark("shape"),
    "fact_module": mark("module"),
    "fact_aliases": mark("also called"),
    "fact_norm": mark("norm"),
    "fact_max": mark("max |g|"),
    "fact_zeros": mark("zeros"),
    "fact_applied": mark("applied norm"),
    "fact_update": mark("update / weights"),
    # the timeline
    "lanes": mark("What did the training loop do?"),
    "lanes_sub": mark("calls around the cursor, in order; spacing does not show time"),
    "lanes_label": mark("calls in steps {first} to {last}: {number}; the table lists them"),
    "events_left_out": mark("calls not shown: {number}"),
    "times_per_step": mark("×{number} per step"),
    "once_in_steps": mark("once in {number} steps"),
    "kind_FORWARD": mark("forward, data"),
    "forward_what": mark(
        "The forward pass and data loading are not recorded: this is all the time before backward."
    ),
    "forward_took": mark("{time} ms since the previous call"),
    "kind_BACKWARD": mark("backward"),
    "kind_UNSCALE": mark("unscale_"),
    "kind_CLIP": mark("clip"),
    "kind_STEP": mark("step"),
    "kind_SCALER_UPDATE": mark("scaler.update"),
    "kind_ZERO_GRAD": mark("zero_grad"),
    "flag_SKIPPED": mark("GradScaler skipped the update"),
    "flag_GUARDED": mark("the guard left out an update"),
    "flag_NO_BACKWARD": mark("step without a new gradient"),
    "flag_BY_HAND": mark("weights changed by hand"),
    "flag_COPIED": mark("gradients of a copy, which was given the new weights"),
    "flag_CHANGED": mark("gradients changed by an unknown operation"),
    "flag_UNHEARD": mark("backward compiled: neither backward nor clipping was recorded"),
    "epoch": mark("epoch {epoch}"),
    # the heads of tables
    "column_severity": mark("severity"),
    "column_code": mark("code"),
    "column_name": mark("name"),
    "column_first_step": mark("first step"),
    "column_last_step": mark("last step"),
    "column_parameters": mark("parameters"),
    "column_cause": mark("cause"),
    "column_advice": mark("change"),
    "column_where": mark("where"),
    "column_statistic": mark("statistic"),
    "column_parameter": mark("parameter"),
    "column_step": mark("step"),
    "column_value": mark("value"),
    "column_limit": mark("limit"),
    "column_shape": mark("shape"),
    "column_state": mark("state"),
    "column_norm": mark("norm"),
    "column_lowest_shown": mark("minimum shown"),
    "column_highest_shown": mark("maximum shown"),
    "column_nonfinite_columns": mark("columns with NaN/Inf"),
    "column_zero_columns": mark("all-zero columns"),
    "column_absent_columns": mark("columns without a gradient"),
    "column_depth": mark("depth"),
    "column_fitted": mark("fitted norm"),
    "column_nonfinite_norm": mark("steps with non-finite norm"),
    "column_nonfinite_loss": mark("steps with non-finite loss"),
    "column_call": mark("call"),
    "column_module": mark("module"),
    "column_type": mark("type"),
    "column_zeros": mark("zeros, %"),
    "column_saturated": mark("saturated, %"),
    "column_factor": mark("× back"),
    "column_since": mark("ms since the previous call"),
    "column_scale": mark("loss scale"),
    "column_optimizer": mark("optimizer"),
    "column_flags": mark("flags"),
    "column_run": mark("run"),
    "column_script": mark("script"),
    "column_began": mark("began (UTC)"),
    "column_steps": mark("steps"),
    "column_loss": mark("loss"),
    "column_findings": mark("findings"),
    "column_end": mark("status"),
    "none": mark("none"),
    # the keys
    "keys": mark("Keyboard shortcuts"),
    "key_step": mark("previous step, next step"),
    "key_far": mark("back, forward by a twentieth of the range shown"),
    "key_ends": mark("first step, last step"),
    "key_parameter": mark("parameter above, below"),
    "key_zoom": mark("zoom out, zoom in, around the cursor"),
    "key_whole": mark("show the whole run"),
    "key_finding": mark("next finding, previous finding"),
    "key_filter": mark("filter parameters"),
    "key_sort": mark("change the sort order"),
    "key_group": mark("change the grouping"),
    "key_scale": mark(
        "change the colour scale: one scale for all, or relative to each row's median"
    ),
    "key_table": mark("switch all charts to tables and back"),
    "key_language": mark("switch the language"),
    "key_dark": mark("switch between dark and light"),
    "key_help": mark("show this list"),
    "key_escape": mark("leave the filter, close this list"),
    "close": mark("close"),
    "help_mouse": mark(
        "Mouse: click to choose a step and a parameter, drag to select a range, double-click to "
        "zoom out, hold Ctrl or Shift and turn the wheel to zoom."
    ),
    "help_honest": mark(
        "When a column or a point covers several steps, it shows an extreme value of all of them, "
        "not a sample: a spike or a NaN in a single step stays visible at every zoom level."
    ),
}
