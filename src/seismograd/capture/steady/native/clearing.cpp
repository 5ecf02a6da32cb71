// `zero_grad` of the only optimizer, as `ClearingVisit` has it.

#include "visits.hpp"

namespace seismograd {

Outcome zero_grad_ends(Visits& own, PyObject* owner) {
  Known& known = *own.known;
  if (known.is_stepping || !is_only(own, owner) || !has_room(own) || !known.is_clear) return Outcome::kNo;
  int64_t flags;
  Ref site = site_here(own, kZeroGradEnds);
  if (!site ||
      !take(held(known.marks_last.are_none() ? own.empty
                 : known.is_used             ? own.used
                                             : own.zero),
            &flags) ||
      !take_marks(own, &known.now) || !is_as_asked(own)) {
    return Outcome::kNo;
  }
  if (known.iteration.has(Heard::kZeroGrad) && !tell(own)) return Outcome::kBroken;
  HeardCall& call = known.iteration.zero_grad;
  call.time_s = known.now_s;
  call.site = std::move(site);
  call.flags = flags;
  known.iteration.hear(Heard::kZeroGrad);
  known.num_events += 1;
  known.marks_last.each.swap(known.now.each);
  known.losses = Ref();
  known.clips = Ref();
  known.ready = held(Py_None);
  known.num_backwards = 0;
  known.has_loss = known.has_ready = known.has_applied = known.is_used = false;
  known.is_heard = true;
  return Outcome::kYes;
}

}  // namespace seismograd
