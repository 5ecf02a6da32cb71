// The backward of one loss into the only optimizer, as `BackwardVisit` has it.

#include <cmath>

#include "visits.hpp"

namespace seismograd {

namespace {

// As `look_schedule.is_looked_at`.
bool is_look(int64_t number) { return number <= 3 || (number & (number - 1)) == 0; }

// The end of the iteration before, which `IterationQueue.end_iteration` would only let wait with others.
class EndedIteration {
 public:
  // Whether it is like that; an iteration that has made no step goes on.
  bool prepare(const Visits& own, const Moment& now) {
    const Known& known = *own.known;
    const Ref steps = get(now.iteration, s_steps);
    if (!steps || !PyList_Check(steps.get())) return false;
    if (PyList_Size(steps.get()) == 0) {
      following_ = held(now.iteration.get());
      return true;
    }
    const Ref optimizer = get(PyList_GetItem(steps.get(), 0), s_optimizer);
    double ended_s;
    if (PyList_Size(steps.get()) != 1 || !optimizer || PySet_Contains(known.alone.get(), optimizer.get()) != 1 || !clock_s(own, &ended_s))
      return false;
    ended_ = boxed(ended_s);
    overhead_ = get(now.iteration, s_overhead_s);
    epoch_ = get(now.iteration, s_epoch);
    return ended_ && overhead_ && epoch_ && fits(own, ended_s) && waits(own, ended_s) && follow(own);
  }

  bool commit(Visits& own, const Moment& now) const {
    if (!ended_) return true;
    Known& known = *own.known;
    if (own.budget != Py_None) {
      known.num_budgeted += 1;
      if (!set(held(own.budget), s__num_steps, known.num_budgeted) ||
          !Ref(PyObject_CallMethodObjArgs(known.judged.get(), s_append, cost_.get(), nullptr))) {
        return false;
      }
    }
    const bool is_done = set(now.iteration, s_parameters, known.columns) && (epoch_.get() != Py_None || set(now.iteration, s_epoch, known.epoch)) &&
                         set(now.iteration, s_number, known.num_rows) && set(now.iteration, s_ended_s, ended_) &&
                         set(known.state, s_iteration, following_) && set(held(own.iteration_queue), s_num_rows, known.num_rows + 1) &&
                         PyList_Append(known.waiting.get(), now.iteration.get()) == 0;
    known.num_rows += 1;
    return is_done;
  }

  const Ref& following() const { return following_; }

 private:
  // Whether the budget has nothing to judge yet.
  bool fits(const Visits& own, double ended_s) {
    const Known& known = *own.known;
    if (own.budget == Py_None) return true;
    cost_ = Ref(PyTuple_Pack(2, ended_.get(), overhead_.get()));
    const bool is_early = known.num_budgeted + 1 < known.least_budgeted || ended_s - known.budget_start_s < known.budget_least_s;
    return cost_ && (is_early || PyObject_Size(known.judged.get()) < own.limits_.budget_window);
  }

  // Whether it is not yet time to make rows.
  bool waits(const Visits& own, double ended_s) const {
    const Ref& waiting = own.known->waiting;
    double oldest_s;
    if (PyList_Size(waiting.get()) + 1 >= own.known->num_together) return false;
    if (PyList_Size(waiting.get()) == 0) return true;
    return take(PyList_GetItem(waiting.get(), 0), s_ended_s, &oldest_s) && ended_s - oldest_s < own.limits_.max_age_s;
  }

  bool follow(const Visits& own) {
    const Ref events = hidden(PyList_New(0)), steps = hidden(PyList_New(0)), compared = hidden(PyList_New(0)), no_parameters(PyTuple_New(0));
    following_ = made(own.iteration);
    return following_ && set(following_, s_events, events) && set(following_, s_steps, steps) && set(following_, s_compared, compared) &&
           set(following_, s_overhead_s, boxed(0.0)) && set(following_, s_number, own.minus_one) && set(following_, s_parameters, no_parameters) &&
           set(following_, s_epoch, Py_None) && set(following_, s_ended_s, own.nan);
  }

  Ref following_, ended_, overhead_, epoch_, cost_;
};

// Whether nothing of the loss is to be looked at that is looked at now and then only, as `BackwardVisit` asks it.
bool is_usual(const Visits& own, const Ref& site, double loss, Ref* inspected) {
  const Known& known = *own.known;
  const int64_t number = known.num_heard_in_all + 1;
  int64_t before;
  if (number >= known.next_look || is_look(number) || known.num_observed + 1 <= own.limits_.first_losses) return false;
  PyObject* at_site = PyDict_GetItemWithError(known.at_site.get(), site.get());  // borrowed
  if (!at_site || !take(held(at_site), &before) || is_look(before + 1)) return false;
  *inspected = boxed(before + 1);
  return *inspected && PySet_Contains(own.numbers, inspected->get()) == 0 && std::isfinite(loss) && std::fabs(loss) < own.limits_.min_loss;
}

// The operations between the models and a loss.
struct Operations {
  Ref tops, after;  // the last of them, and the number of the one before the first
  bool may_hold = false;
};

// Whether the loss is as the last one at its line, as `LossObserver.look` asks; and whether anything of it may have to be held, as
// `LossOperands.hold` does.
bool is_as_before(const Visits& own, PyObject* top, const Ref& site, int64_t* operation, Operations* operations) {
  const Known& known = *own.known;
  const Ref shape = call(own.shape_below, top, own.max_hops), number(PyObject_CallMethodObjArgs(top, s__sequence_nr, nullptr));
  PyObject* before = shape ? PyDict_GetItemWithError(known.shapes.get(), site.get()) : nullptr;                        // borrowed
  if (!before || shape.get() == Py_None || !are_equal(shape, held(before)) || !take(number, operation)) return false;  // a leaf's is too large
  int64_t last = -1;
  const Ref calls = known.calls.get() == Py_None ? Ref() : get(known.calls, s_calls);
  for (Py_ssize_t i = 0; calls && PyList_Check(calls.get()) && i < PyList_Size(calls.get()); ++i) {
    int64_t each;
    if (!take(PyList_GetItem(calls.get(), i), s_last, &each)) return false;
    if (each > last) last = each;
  }
  Operations& all = *operations;
  all.tops = Ref(PyList_New(1));
  all.after = boxed(last);
  if (!all.tops || !all.after) return false;
  Py_INCREF(top);  // which the list takes in any case
  if (PyList_SetItem(all.tops.get(), 0, top) < 0) return false;
  const Ref has_none = call(own.has_none, all.tops.get(), all.after.get(), own.leaf, own.kept_operations, own.max_operations);
  all.may_hold = has_none.get() != Py_True;
  return static_cast<bool>(has_none);
}

bool trains(const Known& known) {
  if (PyList_Size(known.references.get()) == 0) return false;
  const Ref parameter = call(PyList_GetItem(known.references.get(), 0));
  return parameter && parameter.get() != Py_None && is(parameter, s_requires_grad, Py_True);
}

// Whether each model whose mode is looked at is in train mode, by what it keeps of that itself.
bool are_in_train_mode(const Known& known) {
  for (Py_ssize_t i = 0; i < PyList_Size(known.models.get()); ++i) {
    const Ref model = call(PyList_GetItem(known.models.get(), i));
    if (!model) return false;
    if (model.get() == Py_None) continue;
    const Ref kept = get(model, s___dict__);
    if (!kept || !PyDict_Check(kept.get()) || PyDict_GetItemWithError(kept.get(), s_training) != Py_True) return false;
  }
  return true;
}

}  // namespace

Outcome backward_begins(Visits& own, const Moment& now, PyObject* loss) {
  Known& known = *own.known;
  if (type_of(loss) != own.tensor || known.is_stepping || known.loss.get() != Py_None || known.num_heard_before > 1 ||
      PyList_Size(known.losses.get()) != 0 || !was_ordinary(known) || !trains(known) || !are_in_train_mode(known)) {
    return Outcome::kNo;
  }
  // The window holds no loss yet, so only what a step has used may not be there any more.
  Ref marks = marks_of(own);
  if (!marks || (known.is_used && !are_equal(marks, known.none))) return Outcome::kNo;
  double value;
  int64_t operation = -1;
  const Ref site = site_here(own), top = get(loss, s_grad_fn), number = number_of(own, loss);
  Ref inspected;
  Operations operations;
  EndedIteration ended;
  if (!site || !top || top.get() == Py_None || !take(number, &value) || !is_usual(own, site, value, &inspected) ||
      !is_as_before(own, top.get(), site, &operation, &operations) || !ended.prepare(own, now) || !has_room(own, ended.following())) {
    return Outcome::kNo;
  }
  Ref scalar = known_scalar(own, number.get());
  const Ref scale = get(known.state, s_loss_scale), no_batches(PyTuple_New(0)), events = get(ended.following(), s_events);
  Ref captured = scalar && scale ? captured_call(own, now, own.kind_backward, own.zero, site,
                                                 {own.minus_one, scalar.get(), own.not_known, scale.get(), 0, own.zero})
                                 : Ref();
  if (!captured || !no_batches || !events || !is_as_asked(own)) return Outcome::kNo;
  known.num_heard_in_all += 1;
  known.num_observed += 1;
  const bool is_done = set(held(own.backwards), s_num_heard, known.num_heard_in_all) && ended.commit(own, now) && set(known.state, s_loss, scalar) &&
                       PyList_Append(events.get(), captured.get()) == 0 && set(known.state, s_captured, captured) &&
                       set(known.clearing, s_before, marks) && set(held(own.births), s_batches, no_batches) &&
                       (known.calls.get() == Py_None || set(known.calls, s_is_paused, Py_False)) &&
                       set(held(own.observer), s__num, known.num_observed) && set(known.state, s_last_operation, operation) &&
                       PyDict_SetItem(known.at_site.get(), site.get(), inspected.get()) == 0;
  known.operation = operation;
  known.loss = std::move(scalar);
  known.captured = std::move(captured);
  Outcome found = outcome(is_done);
  if (found == Outcome::kYes && operations.may_hold) {
    found = have_done(own, kBackwardBegins, 0, {operations.tops.get(), operations.after.get()});
  }
  if (found == Outcome::kYes && known.num_observed % own.limits_.sample_every == 0) {
    found = have_done(own, kBackwardBegins, 1, {known.captured.get(), loss});
  }
  return found;
}

Outcome backward_ends(Visits& own, const Moment&) {
  Known& known = *own.known;
  if (known.loss.get() == Py_None || known.captured.get() == Py_None || known.is_stepping || PyList_Size(known.sites.get()) != 0 ||
      is_look(known.num_heard_in_all)) {
    return Outcome::kNo;
  }
  const Ref marks = marks_of(own), before = get(known.clearing, s_before), scale = get(known.state, s_loss_scale), clips(PyList_New(0));
  const Ref site = get(known.captured, s_site);
  int64_t touched;
  if (!marks || !before || are_equal(marks, before) || !scale || !clips || !site || !take(known.captured, s_touched, &touched) || !is_as_asked(own)) {
    return Outcome::kNo;
  }
  known.num_backwards += 1;
  known.num_heard += 1;
  if (known.last_operation < known.operation) known.last_operation = known.operation;
  const bool is_done = set(known.state, s_loss, Py_None) && set(known.state, s_loss_scale, Py_None) && set(known.state, s_captured, Py_None) &&
                       set(known.clearing, s_is_used, Py_False) && set(known.clearing, s_last, marks) && set(known.clearing, s_before, marks) &&
                       set(known.captured, s_touched, touched | known.bit_number) && PyList_Append(known.sites.get(), site.get()) == 0 &&
                       set(known.per_loss, s_is_clear, Py_False) && set(known.window, s_last_operation, known.last_operation) &&
                       set(known.window, s_num_backwards, known.num_backwards) && set(known.window, s_num_heard, known.num_heard) &&
                       PyList_Append(known.losses.get(), known.loss.get()) == 0 && set(known.window, s_grad_scale, scale) &&
                       set(known.window, s_loss_scale, scale) && set(known.window, s_ready, Py_None) && set(known.window, s_applied, Py_None) &&
                       set(known.window, s_clips, clips);
  known.loss = held(Py_None);
  known.captured = held(Py_None);
  known.is_used = known.has_ready = known.has_clips = false;
  return outcome(is_done);
}

}  // namespace seismograd
