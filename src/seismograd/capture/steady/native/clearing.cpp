// `zero_grad` of the only optimizer, as `ClearingVisit` has it.

#include "visits.hpp"

namespace seismograd {

Outcome zero_grad_ends(Visits& own, const Moment& now, PyObject* owner) {
  Known& known = *own.known;
  if (known.is_stepping || !is_only(own, owner) || !has_room(own, now.iteration) || !is(known.per_loss, s_is_clear, Py_True)) {
    return Outcome::kNo;
  }
  const Ref last = get(known.clearing, s_last), marks = marks_of(own), site = site_here(own), events = get(now.iteration, s_events);
  Ref losses(PyList_New(0));
  const Ref clips(PyList_New(0));
  int64_t flags;
  PyObject* flag = are_equal(last, known.none) ? own.empty : known.is_used ? own.used : own.zero;
  if (!last || !marks || !site || !events || !losses || !clips || !take(held(flag), &flags)) return Outcome::kNo;
  const Ref captured = captured_call(own, now, own.kind_zero_grad, own.by_optimizer, site,
                                     {known.index.get(), own.not_known, own.not_known, Py_None, flags, known.bit.get()});
  if (!captured || !is_as_asked(own)) return Outcome::kNo;
  const bool is_done = set(known.window, s_losses, losses) && set(known.window, s_clips, clips) && set(known.window, s_num_backwards, own.zero) &&
                       set(known.window, s_ready, Py_None) && set(known.window, s_applied, Py_None) && set(known.clearing, s_is_used, Py_False) &&
                       set(known.clearing, s_last, marks) && PyList_Append(events.get(), captured.get()) == 0;
  known.losses = std::move(losses);
  known.num_backwards = 0;
  known.has_clips = known.has_ready = known.is_used = false;
  return outcome(is_done);
}

}  // namespace seismograd
