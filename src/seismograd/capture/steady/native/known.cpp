// Ask everything that is so in a steady training.

#include "visits.hpp"

namespace seismograd {

namespace {

bool is_none(const Ref& object) { return object.get() == Py_None; }

template <typename Object>
bool flag(const Object& object, PyObject* name, bool* value) {
  const Ref found = get(object, name);
  *value = found.get() == Py_True;
  return found.get() == Py_True || found.get() == Py_False;
}

template <typename Object>
bool list(const Object& object, PyObject* name, Ref* found) {
  *found = get(object, name);
  return *found && PyList_Check(found->get());
}

template <typename Object>
bool dictionary(const Object& object, PyObject* name, Ref* found) {
  *found = get(object, name);
  return *found && PyDict_Check(found->get());
}

template <typename Object>
bool keep(const Object& object, PyObject* name, Ref* found) {
  *found = get(object, name);
  return static_cast<bool>(*found);
}

// The only optimizer and its window.
bool ask_window(const Visits& own, Known& known) {
  int64_t num_made;
  bool is_eager, evaluates_again;
  return keep(own.loop, s_window, &known.window) && !is_none(known.window) && keep(own.loop, s_windows, &known.windows) &&
         keep(own.loop, s_optimizer, &known.optimizer) && is(own.registry, s_open_windows, known.windows.get()) && is_empty(own.registry, s_died) &&
         is_empty(own.guard, s_failures) && is(own.visits, s__has_stepped, Py_True) && is(known.window, s_thread_state, known.state.get()) &&
         keep(known.window, s_clearing, &known.clearing) && keep(known.window, s_per_loss, &known.per_loss) &&
         keep(known.window, s_probe, &known.probe) && keep(known.window, s_index, &known.index) && keep(known.window, s_bit, &known.bit) &&
         take(known.bit, &known.bit_number) && take(known.window, s_num_made, &num_made) && num_made <= 1 && flag(known.window, s_eager, &is_eager) &&
         !is_eager && flag(known.window, s_evaluates_again, &evaluates_again) && !evaluates_again && is(known.per_loss, s_several, Py_False) &&
         is(known.per_loss, s_taking, Py_False) && list(known.per_loss, s_sites, &known.sites) && is_empty(own.successors, s_common) &&
         is_empty(own.successors, s_loaded) && is(own.successors, s_compared, known.windows.get());
}

// The running iteration of this thread.
bool ask_iteration(const Visits& own, Known& known) {
  HeardIteration& running = known.iteration;
  running = HeardIteration();
  const Ref alone = get(own.endings, s_alone);
  const int is_alone = alone && PyAnySet_Check(alone.get()) ? PySet_Contains(alone.get(), known.index.get()) : -1;
  if (is_alone < 0 || !keep(known.state, s_iteration, &running.object)) return false;
  known.is_alone = is_alone == 1;
  Ref events, steps;
  if (!list(running.object, s_events, &events) || !list(running.object, s_steps, &steps)) return false;
  known.num_events = PyList_Size(events.get());
  const Py_ssize_t num_steps = PyList_Size(steps.get());
  known.has_stepped = num_steps != 0;
  known.ends_alone = num_steps == 1 && known.is_alone && are_equal(get(PyList_GetItem(steps.get(), 0), s_optimizer), known.index);
  return keep(running.object, s_epoch, &running.epoch) && take(running.object, s_overhead_s, &running.overhead_s);
}

// Where the loop is.
bool ask_place(const Visits& own, Known& known) {
  const Ref carried = get(known.window, s_carried), pending = get(known.probe, s_pending), applied = get(known.window, s_applied),
            last = get(known.window, s_last);
  if (!carried || !pending || !applied || !last) return false;
  bool shares = true;
  known.has_carried = !is_none(carried);
  known.has_applied = !is_none(applied);
  known.is_probed = !is_none(pending);
  known.last_used = used_of(own, last);
  known.is_in_backward = known.has_loss = known.has_site = known.has_begun = known.has_ended = known.has_read = false;
  known.last = Ref();
  known.last_step_site = Ref();
  known.slices = Ref();
  known.num_scalars = -1;
  known.probes_s = 0;
  if (!keep(known.state, s_clipping, &known.clipping) || !keep(known.window, s_ready, &known.ready)) return false;
  known.is_clipping = known.clipping.get() != own.no_clip;
  known.has_ready = !is_none(known.ready);
  known.ready_used = used_of(own, known.ready);
  const bool is_known = flag(known.window, s_stepping, &known.is_stepping) && flag(known.clearing, s_is_used, &known.is_used) &&
                        flag(known.per_loss, s_is_clear, &known.is_clear) && flag(known.per_loss, s__same_forward, &shares) &&
                        list(known.clearing, s_parameters, &known.references) && keep(known.clearing, s_not_carried, &known.not_carried) &&
                        is(known.clearing, s_carried, known.not_carried.get()) && take(get(known.clearing, s_last), &known.marks_last) &&
                        take(get(known.clearing, s_before), &known.marks_before) && keep(known.state, s_loss, &known.loss) &&
                        keep(known.state, s_captured, &known.captured) && keep(known.state, s_loss_scale, &known.next_scale) &&
                        keep(known.window, s_loss_scale, &known.loss_scale) && keep(known.window, s_grad_scale, &known.grad_scale) &&
                        list(known.window, s_losses, &known.losses) && list(known.window, s_clips, &known.clips) &&
                        keep(known.window, s_step, &known.step) && keep(known.window, s_step_heard, &known.step_heard) &&
                        take(known.window, s_num_steps, &known.num_steps) && take(known.window, s_num_backwards, &known.num_backwards) &&
                        take(known.window, s_num_heard, &known.num_heard) && take(known.window, s_num_backwards_before, &known.num_heard_before) &&
                        take(known.window, s_last_operation, &known.last_operation) && take(known.state, s_last_operation, &known.operation) &&
                        take(known.probe, s__num_steps, &known.num_probed_steps) && take(known.probe, s__due, &known.probe_due) &&
                        keep(known.probe, s__copies, &known.copies) && ask_iteration(own, known);
  known.are_parted = !shares;
  return is_known;
}

// The models whose mode is looked at, where each was in train mode ever since: then nothing is noted of one that still is.
bool ask_modes(const Visits& own, Known& known) {
  const Ref watched = get(own.modes, s_watched);
  if (!watched || !PyDict_Check(watched.get())) return false;
  const Ref each(PyDict_Values(watched.get()));
  known.models = Ref(PyList_New(0));
  for (Py_ssize_t i = 0; each && known.models && i < PyList_Size(each.get()); ++i) {
    PyObject* one = PyList_GetItem(each.get(), i);
    const Ref alive = get(one, s_alive);
    int64_t times;
    if (!alive || !is(one, s_has_trained, Py_True) || !take(one, s_times, &times) || times || PyList_Append(known.models.get(), alive.get()) < 0) {
      return false;
    }
  }
  return each && known.models;
}

// What is looked at in a backward now and then only.
bool ask_looks(const Visits& own, Known& known) {
  known.num_at_site = -1;
  known.num_zeros = known.num_flat = 0;
  if (!dictionary(get(own.inspection, s__zero_gradients), s__num, &known.zeros) ||
      !dictionary(get(own.inspection, s_flat_functions), s__num, &known.flat) || !is_empty(get(own.inspection, s_sample_cuts), s_waiting)) {
    return false;
  }
  const Ref version = get(own.table, s_version), withheld = get(own.inspection, s_withheld), profiles = get(own.inspection, s_time_profiles);
  const Ref sums = get(own.inspection, s_sums);
  bool is_asked;
  Ref recorder;
  const bool are_known = is(own.backwards, s_touched, Py_True) && is(own.backwards, s_has_looked, Py_True) && is_empty(own.backwards, s_leaves) &&
                         is_empty(own.reductions, s_since_backward) && is(own.reductions, s_is_stage, Py_False) &&
                         keep(own.xray, s_recorder, &recorder) && flag(own.xray, s_asked, &is_asked) && !is_asked &&
                         take(own.xray, s_due, &known.xray_due) && is(own.table, s_unordered, Py_False) && version && ask_modes(own, known) &&
                         are_equal(get(own.modes, s_version), version) && is(own.remade, s_is_over, Py_True) &&
                         are_equal(get(own.frozen, s_version), version) && is_empty(profiles, s_running) && is(profiles, s_is_recurrent, Py_False) &&
                         is(sums, s_every_tenth, Py_False) && is(sums, s_running, Py_None) && take(withheld, s_next_look, &known.next_look) &&
                         is(withheld, s_is_suspicious, Py_False) && is(withheld, s_is_listening, Py_False) &&
                         is(get(own.inspection, s_flat_functions), s_is_listening, Py_False) &&
                         dictionary(own.inspection, s_num_at_site, &known.at_site) && dictionary(own.observer, s__shapes, &known.shapes) &&
                         dictionary(own.sharing, s__counts, &known.looks_at_sharing) && dictionary(own.sharing, s__shared, &known.sharing) &&
                         take(own.observer, s__num, &known.num_observed) && take(own.backwards, s_num_heard, &known.num_heard_in_all);
  known.has_xray = are_known && !is_none(recorder);
  return are_known;
}

// The weights that are followed, none where nothing is sampled.
bool ask_followed(const Visits& own, Known& known) {
  const Ref by_index = get(own.overwritten, s__followed);
  known.are_followed = known.has_kept = false;  // no tensor is asked here, where a mode of the program's may be on
  if (!by_index || !PyDict_Check(by_index.get()) || !is(own.overwritten, s__windows, known.windows.get())) return false;
  PyObject* followed = PyDict_GetItemWithError(by_index.get(), known.index.get());  // borrowed
  if (own.sampling != Py_True) {
    known.followed.clear();
    known.are_followed = true;
    return !followed;
  }
  return followed && is(followed, s_is_loaded, Py_False) && are_equal(get(followed, s_num_made), get(known.window, s_num_made)) &&
         list(followed, s_slices, &known.followed_slices);
}

// What is held of calls of the model, and of the weights behind the last step.
bool ask_held(const Visits& own, Known& known) {
  if (!ask_followed(own, known) || !is(own.torch_cuda, s__initialized, Py_False) || !is_empty(own.rates, s_loaded) ||
      !is(own.births, s_keeps_batches, Py_False) || !is_empty(own.births, s_batches) || !list(own.operands, s_losses, &known.operands) ||
      !keep(own.births, s_calls, &known.calls)) {
    return false;
  }
  return is_none(known.calls) || (is(known.calls, s_is_paused, Py_False) && dictionary(known.calls, s__parameters, &known.parameters_by_model) &&
                                  are_equal(get(own.births, s__version), get(own.table, s_version)));
}

// The iterations that wait for their rows.
bool ask_waiting(const Visits& own, Known& known) {
  if (!list(get(own.iteration_queue, s__pending), s_waiting, &known.waiting)) return false;
  known.num_waiting = PyList_Size(known.waiting.get());
  return known.num_waiting == 0 || take(PyList_GetItem(known.waiting.get(), 0), s_ended_s, &known.oldest_s);
}

// The queue of iterations, and the budget.
bool ask_queue(const Visits& own, Known& known) {
  const Ref thinning = get(own.iteration_queue, s_thinning);
  int64_t full_every;
  if (!is(thinning, s_extras, Py_True) || !take(thinning, s_full_every, &full_every) || full_every > 1 ||
      !take(thinning, s_sample_every, &known.sample_every) || known.sample_every < 1 || !is_empty(get(own.iteration_queue, s_outlet), s_others) ||
      !ask_waiting(own, known) || !keep(own.table, s_parameters, &known.columns) || !is(own.iteration_queue, s__columns, known.columns.get()) ||
      !take(own.iteration_queue, s__num_together, &known.num_together) || !take(own.iteration_queue, s_num_rows, &known.num_rows) ||
      !keep(own.iteration_queue, s_epoch, &known.epoch) || !take(own.log, s_start_s, &known.start_s) ||
      !dictionary(own.call_sites, s__kinds, &known.kinds) || !dictionary(own.call_sites, s__places, &known.places)) {
    return false;
  }
  if (own.budget == Py_None) return true;
  if (!keep(own.budget, s__steps, &known.judged)) return false;
  known.num_judged = PyObject_Size(known.judged.get());
  return known.num_judged >= 0 && take(own.budget, s__num_steps, &known.num_budgeted) && take(own.budget, s__min_steps, &known.least_budgeted) &&
         take(own.budget, s__start_s, &known.budget_start_s) && take(own.budget, s__min_time_s, &known.budget_least_s);
}

// Whether the kernel takes the norms of the weights as before; nothing else is in question where it does not.
bool ask_weights(Known& known, const Ref& tables) {
  const Ref lies = keep(tables, s_weights, &known.weights_table) ? get(known.weights_table, s_known) : Ref();
  const bool is_known = lies && PyObject_Size(lies.get()) == known.num_measured && is_empty(known.weights_table, s_others) &&
                        keep(known.weights_table, s_is_still_so, &known.weights_still_so) &&
                        keep(known.weights_table, s_known_at, &known.weights_known_at) && keep(known.weights_table, s_entries_at, &known.weights_at);
  if (!is_known) PyErr_Clear();
  return is_known;
}

}  // namespace

// How gradients are read that lie as they did: what `GradientReader.read_again`, `LocalBackend.measure_again` and `NativeBackend.measure_again` ask.
bool ask_reading(const Visits& own, Known& known) {
  const Ref plan = get(known.window, s_plan), tables = get(own.native_backend, s__last);
  int64_t every;
  if (!plan || is_none(plan) || !are_equal(get(plan, s_version), get(own.table, s_version)) || !is_empty(plan, s_unowned) ||
      !is(plan, s_frozen, Py_False) || !is_empty(own.table, s_died) || !are_equal(get(plan, s_num_gone), get(own.table, s_known_gone)) ||
      !take(own.reader_steps, s_every, &every) || every > 1 || !take(own.sketcher, s_every, &known.sketch_every) ||
      !is_empty(own.elements, s_specs) || !is_empty(own.log, s_waiting) || !keep(plan, s_ids, &known.ids) ||
      !keep(plan, s_columns, &known.plan_columns) || !keep(plan, s_positions, &known.positions) || !keep(plan, s_numels, &known.numels) ||
      !keep(plan, s_whole, &known.whole) || !tables || is_none(tables) || !is(tables, s_keys, known.plan_columns.get()) ||
      !is_empty(own.native_backend, s__with_reference) || !keep(tables, s_gradients, &known.table)) {
    return false;
  }
  if (own.local_backend != Py_None) {
    const Ref shards = get(own.local_backend, s__shards);
    if (!is(own.local_backend, s_checksum, Py_None) || !is(shards, s_plain_columns, known.plan_columns.get()) ||
        !is(shards, s_has_summands, Py_False)) {
      return false;
    }
  }
  known.id_set = Ref(PyFrozenSet_New(known.ids.get()));
  const Ref lies = get(known.table, s_known);
  known.num_measured = lies ? PyObject_Size(lies.get()) : -1;
  known.has_weights = ask_weights(known, tables);
  return known.id_set && is_empty(known.table, s_others) && keep(known.table, s_is_still_so, &known.is_still_so) &&
         keep(known.table, s_known_at, &known.known_at) && keep(known.table, s_entries_at, &known.entries_at) &&
         keep(own.native_backend, s__measure_at, &known.kernel) && keep(own.native_backend, s__instruction_set, &known.instructions) &&
         keep(own.reductions, s_num_before, &known.num_collectives) && take(own.spent, s_plain_s, &known.plain_s) &&
         take(own.spent, s_num_plain, &known.num_plain) && take(own.spent, s_sampled_s, &known.sampled_s) &&
         take(own.spent, s_num_sampled, &known.num_sampled);
}

void ask_after(Visits& own, Event event) {
  Known& known = *own.known;
  int64_t num_full;
  // What is noted of a schedule changes nothing of all that.
  const int64_t num_expected = known.num_full + (event == kScheduled ? 1 : 0);
  const bool is_short = known.is_steady && lock_of(own).num_taken == known.num_taken + 1 && take(own.visits, s_num_full, &num_full) &&
                        num_full == num_expected && known.thread == PyThread_get_thread_ident();
  if (!is_short) {
    ask_all(own);
    return;
  }
  known.num_taken += 1;
  known.num_full = num_full;
  if (event == kScheduled) {
    known.is_steady = is_empty(own.guard, s_failures) && is_empty(own.rates, s_loaded) && ask_iteration(own, known);
    if (!known.is_steady) PyErr_Clear();
    return;
  }
  const bool is_of_backward = event == kBackwardBegins || event == kBackwardEnds, is_of_step = event == kStepBegins || event == kStepEnds;
  known.is_steady = is_empty(own.guard, s_failures) && list(known.per_loss, s_sites, &known.sites) && ask_place(own, known) &&
                    (event == kStepBegins || ask_looks(own, known)) && (!is_of_backward || ask_queue(own, known)) &&
                    (!(is_of_step || event == kClipBegins) || (ask_held(own, known) && ask_reading(own, known)));
  if (!known.is_steady) PyErr_Clear();
}

bool ask_all(Visits& own) {
  Known& known = *own.known;
  const bool is_told = hand_over(own);  // by what was asked before
  known.is_steady = false;
  if (!is_told) {
    PyErr_Clear();
    return false;
  }
  known.num_full = -1;
  known.num_taken = lock_of(own).num_taken;
  known.thread = PyThread_get_thread_ident();
  const Ref thread(PyLong_FromUnsignedLong(known.thread));
  known.state = held(thread ? PyDict_GetItemWithError(own.by_thread, thread.get()) : nullptr);
  known.is_steady = known.state && take(own.visits, s_num_full, &known.num_full) && ask_window(own, known) && ask_place(own, known) &&
                    ask_looks(own, known) && ask_held(own, known) && ask_queue(own, known) && ask_reading(own, known);
  if (!known.is_steady) PyErr_Clear();
  return known.is_steady;
}

}  // namespace seismograd
