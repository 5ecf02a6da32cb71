// The backward of one loss into the only optimizer, as `BackwardVisit` has it.

#include <cmath>

#include "visits.hpp"

namespace seismograd {

namespace {

// As `look_schedule.is_looked_at`.
bool is_look(int64_t number) { return number <= 3 || (number & (number - 1)) == 0; }

// Whether the budget has nothing to judge yet.
bool fits(const Visits& own, double ended_s) {
  const Known& known = *own.known;
  const bool is_early = known.num_budgeted + 1 < known.least_budgeted || ended_s - known.budget_start_s < known.budget_least_s;
  return own.budget == Py_None || is_early || known.num_judged < own.limits_.budget_window;
}

// Whether it is not yet time to make rows.
bool waits(const Visits& own, double ended_s) {
  const Known& known = *own.known;
  return known.num_waiting + 1 < known.num_together && (known.num_waiting == 0 || ended_s - known.oldest_s < own.limits_.max_age_s);
}

// Whether the iteration that has stepped ends as `IterationQueue.end_iteration` would only let it wait with others.
bool may_end(const Visits& own, double* ended_s) {
  return own.known->ends_alone && clock_s(own, ended_s) && fits(own, *ended_s) && waits(own, *ended_s);
}

void end(Visits& own, double ended_s) {
  Known& known = *own.known;
  HeardIteration& ended = known.iteration;
  ended.ended_s = ended_s;
  ended.number = known.num_rows++;
  if (known.num_waiting++ == 0) known.oldest_s = ended_s;
  if (own.budget != Py_None) {
    known.num_budgeted += 1;
    known.num_judged += 1;
  }
  known.finished.push_back(std::move(ended));
  known.iteration = HeardIteration();
  known.iteration.epoch = held(Py_None);
  known.num_events = 0;
  known.has_stepped = known.ends_alone = false;
}

// Have the counts and the shape of this line at hand; false where it is new.
bool remember(Visits& own, const Ref& site) {
  Known& known = *own.known;
  if (known.num_at_site >= 0 && known.backward_site.get() == site.get()) return true;
  if (!tell(own)) return false;
  known.num_at_site = -1;
  PyObject *shape = PyDict_GetItemWithError(known.shapes.get(), site.get()), *number = PyDict_GetItemWithError(known.at_site.get(), site.get());
  if (!shape || !number || !take(held(number), &known.num_at_site)) return false;
  known.backward_site = held(site.get());
  known.shape = held(shape);
  return true;
}

// Whether nothing of the loss is to be looked at that is looked at now and then only, as `BackwardVisit` asks it.
bool is_usual(const Visits& own, double loss) {
  const Known& known = *own.known;
  const int64_t number = known.num_heard_in_all + 1, inspected = known.num_at_site + 1;
  return number < known.next_look && !is_look(number) && known.num_observed + 1 > own.limits_.first_losses && !is_look(inspected) &&
         PySet_Contains(own.numbers, boxed(inspected).get()) == 0 && std::isfinite(loss) && std::fabs(loss) < own.limits_.min_loss;
}

// Whether gradients of zeros alone are not looked into this time either, as `ZeroGradients` and `FlatFunctions` do ever more rarely.
bool passes_zeros(Known& known) {
  if (known.last_used != Used::kZeros) return true;
  if (!known.num_zeros) {
    PyObject *zeros = PyDict_GetItemWithError(known.zeros.get(), known.index.get()),
             *flat = PyDict_GetItemWithError(known.flat.get(), known.index.get());
    if (!zeros || !flat || !take(held(zeros), &known.num_zeros) || !take(held(flat), &known.num_flat)) return false;
  }
  return !is_look(known.num_zeros + 1) && !is_look(known.num_flat + 1);
}

// The operations between the models and a loss.
struct Operations {
  int64_t number = -1;  // of the last one
  bool may_hold = false;
};

// Whether the loss is as the last one at its line, as `LossObserver.look` asks; and whether anything of it may have to be held, as
// `LossOperands.hold` does.
bool is_as_before(const Visits& own, PyObject* loss, PyObject* top, Operations* operations) {
  const Known& known = *own.known;
  const Ref calls = known.calls.get() == Py_None ? held(Py_None) : get(known.calls, s_calls);
  int64_t found;
  if (!calls ||
      !take(call(own.loss_as_before, loss, top, calls.get(), known.shape.get(), own.max_hops, own.leaf, own.kept_operations, own.max_operations),
            &found) ||
      found < 0) {
    return false;
  }
  operations->number = found >> 1;
  operations->may_hold = (found & 1) != 0;
  return true;
}

// Have Python hold what the operations of the loss were given, behind all else of the visit.
Outcome have_held(Visits& own, PyObject* top) {
  int64_t last = -1;
  const Ref calls = own.known->calls.get() == Py_None ? Ref() : get(own.known->calls, s_calls), tops(PyList_New(1));
  for (Py_ssize_t i = 0; calls && PyList_Check(calls.get()) && i < PyList_Size(calls.get()); ++i) {
    int64_t each;
    if (!take(PyList_GetItem(calls.get(), i), s_last, &each)) return Outcome::kBroken;
    if (each > last) last = each;
  }
  if (!tops) return Outcome::kBroken;
  Py_INCREF(top);  // which the list takes in any case
  if (PyList_SetItem(tops.get(), 0, top) < 0) return Outcome::kBroken;
  return have_done(own, kBackwardBegins, 0, {tops.get(), boxed(last).get()});
}

// Whether the loss is the mean that the last one was that Python has looked at, as `mean_of` sees it; `mean`: which, none where it is another thing.
bool takes_reduction(const Visits& own, const Ref& top, Ref* mean) {
  *mean = call(own.mean_of_loss, top.get(), own.counts_targets);
  if (!*mean || mean->get() == Py_None) {
    PyErr_Clear();
    *mean = Ref();
    return false;
  }
  return own.known->reduction && own.known->reduction.get() != Py_None && are_equal(own.known->mean, *mean);
}

// Whether a further loss of a window does not share its forward pass with those before, by what was found at this line and without a look, as
// `SharedForward`; `num`: how often that was asked there.
bool is_new(const Visits& own, const Ref& site, int64_t* num) {
  const Known& known = *own.known;
  if (known.last_operation < 0) return true;
  PyObject *looks = PyDict_GetItemWithError(known.looks_at_sharing.get(), site.get()),
           *shares = PyDict_GetItemWithError(known.sharing.get(), site.get());
  if (!looks || shares != Py_False || !take(held(looks), num)) return false;
  return ++*num > own.limits_.sharing_looks && *num % own.limits_.sample_every != 0;
}

bool trains(const Known& known) {
  PyObject* parameter = PyList_Size(known.references.get()) == 0 ? nullptr : referent(PyList_GetItem(known.references.get(), 0));
  return parameter && is(held(parameter), s_requires_grad, Py_True);
}

// Whether each model whose mode is looked at is in train mode, by what it keeps of that itself.
bool are_in_train_mode(const Known& known) {
  for (Py_ssize_t i = 0; i < PyList_Size(known.models.get()); ++i) {
    PyObject* model = referent(PyList_GetItem(known.models.get(), i));
    if (!model && PyErr_Occurred()) return false;
    const Ref kept = model ? get(held(model), s___dict__) : Ref();
    if (model && (!kept || !PyDict_Check(kept.get()) || PyDict_GetItemWithError(kept.get(), s_training) != Py_True)) return false;
  }
  return true;
}

}  // namespace

Outcome backward_begins(Visits& own, PyObject* loss) {
  Known& known = *own.known;
  if (type_of(loss) != own.tensor || !referent(known.optimizer.get()) || known.is_stepping || known.is_in_backward || known.loss.get() != Py_None ||
      known.last_used == Used::kOther || !trains(known) || !are_in_train_mode(known)) {
    return Outcome::kNo;
  }
  const bool has_losses = known.has_loss || (known.losses && PyList_Size(known.losses.get()) != 0);
  // What a step has used may not be there any more, and what losses of this window have left is as they left it.
  if (!take_marks(own, &known.now) || (known.is_used ? !known.now.are_none() : has_losses && !(known.now == known.marks_last))) return Outcome::kNo;
  double value, ended_s = 0;
  Ref site = site_here(own, kBackwardBegins), number;
  const Ref top = get(loss, s_grad_fn);
  Operations operations;
  int64_t num_looks = 0;
  if (!site || !top || top.get() == Py_None || !remember(own, site) || !(number = number_of(own, loss)) || !take(number, &value) ||
      !is_usual(own, value) || !passes_zeros(known) || !is_as_before(own, loss, top.get(), &operations) ||
      (has_losses && !is_new(own, site, &num_looks)) || (known.has_stepped ? !may_end(own, &ended_s) : !has_room(own)) || !is_as_asked(own)) {
    return Outcome::kNo;
  }
  if (known.has_stepped) {
    end(own, ended_s);
  } else if (known.iteration.has(Heard::kBackward) && !tell(own)) {
    return Outcome::kBroken;
  }
  if (num_looks > 0 && PyDict_SetItem(known.looks_at_sharing.get(), site.get(), boxed(num_looks).get()) < 0) return Outcome::kBroken;
  HeardBackward& call = known.iteration.backward;
  call = HeardBackward();
  call.time_s = known.now_s;
  call.site = std::move(site);
  call.number = std::move(number);
  call.scale = held(known.next_scale.get());
  known.iteration.hear(Heard::kBackward);
  known.num_events += 1;
  known.num_heard_in_all += 1;
  known.num_observed += 1;
  known.num_at_site += 1;
  if (known.last_used == Used::kZeros) {
    known.num_zeros += 1;
    known.num_flat += 1;
  }
  known.operation = operations.number;
  known.marks_before.each.swap(known.now.each);
  known.is_in_backward = known.is_heard = true;
  Outcome found = Outcome::kYes;
  bool reduces = has_losses || known.num_heard_before > 1 || known.num_observed % own.limits_.sample_every == 0;
  Ref mean;
  if (reduces && takes_reduction(own, top, &mean)) {
    call.reduction = held(known.reduction.get());
    reduces = false;
  }
  if ((operations.may_hold || reduces) && !tell(own)) return Outcome::kBroken;
  if (operations.may_hold) found = have_held(own, top.get());
  if (found == Outcome::kYes && reduces) {
    found = have_done(own, kBackwardBegins, 1, {known.captured.get(), loss});
    known.reduction = found == Outcome::kYes && mean ? get(known.captured, s_reduction) : Ref();
    known.mean = std::move(mean);
  }
  return found == Outcome::kYes ? tell_xray(own, kBackwardBegins, 2, {loss}) : found;
}

Outcome backward_ends(Visits& own) {
  Known& known = *own.known;
  const bool is_object = known.loss.get() != Py_None && known.captured.get() != Py_None;
  if (!(known.is_in_backward || is_object) || !referent(known.optimizer.get()) || known.is_stepping || known.has_site ||
      is_look(known.num_heard_in_all) || !take_marks(own, &known.now) || known.now == known.marks_before || !is_as_asked(own)) {
    return Outcome::kNo;
  }
  if (is_object) {
    const Ref site = get(known.captured, s_site);
    int64_t touched, flags;
    if (!take(known.captured, s_flags, &flags) || (flags & own.limits_.shared)) return Outcome::kNo;
    if (!known.sites) known.sites = Ref(PyList_New(0));
    if (!known.losses) known.losses = Ref(PyList_New(0));
    known.are_parted = known.are_parted || (known.sites && PyList_Size(known.sites.get()) != 0);
    if (!site || !known.sites || !known.losses || !take(known.captured, s_touched, &touched)) return Outcome::kNo;
    if (!set(known.captured, s_touched, touched | known.bit_number) || PyList_Append(known.sites.get(), site.get()) < 0 ||
        PyList_Append(known.losses.get(), known.loss.get()) < 0) {
      return Outcome::kBroken;
    }
    known.loss = held(Py_None);
    known.captured = held(Py_None);
  } else {
    known.are_parted = known.are_parted || (known.sites && PyList_Size(known.sites.get()) != 0);
    known.iteration.backward.touched |= known.bit_number;
    known.has_site = known.has_loss = true;
    known.is_in_backward = false;
  }
  known.num_backwards += 1;
  known.num_heard += 1;
  if (known.last_operation < known.operation) known.last_operation = known.operation;
  known.grad_scale = held(known.next_scale.get());
  known.loss_scale = held(known.next_scale.get());
  known.next_scale = held(Py_None);
  known.marks_last = known.now;
  known.marks_before.each.swap(known.now.each);
  known.clips = Ref();
  known.ready = held(Py_None);
  known.is_used = known.has_ready = known.has_applied = known.is_clear = false;
  known.is_heard = true;
  return tell_xray(own, kBackwardEnds, 0, {});
}

}  // namespace seismograd
