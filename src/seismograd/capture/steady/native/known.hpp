// What is known of a steady training between two visits.

#pragma once

#include "heard.hpp"

namespace seismograd {

enum Event { kZeroGradEnds, kBackwardBegins, kBackwardEnds, kStepBegins, kStepEnds, kClipBegins, kClipEnds, kScheduled, kNumEvents };

// Where an event came from the last time: the frames' code, from that of the hook to that of the user's line.
struct KnownLine {
  static constexpr int kMost = 16;
  using Codes = std::array<Ref, kMost>;
  Codes codes;
  int num = 0;
  int64_t instruction = -1;
  Ref site;
};

// What a step has used, as far as the next one asks.
enum class Used {
  kOrdinary,  // no gradient of zeros alone, and only finite numbers
  kZeros,     // only finite numbers
  kOther,
};

// A weight of which some rows are compared: where they lie, in bytes, and what the last step has left there.
struct FollowedWeight {
  Ref slice, reference;
  int64_t address = 0, num_bytes = 0, first = 0, stride = 0, width = 0;
  std::vector<char> kept;
};

// What is so in a steady training, asked once and true until Python has run: then nothing of it has to be asked again, which takes long, as the
// training has emptied the processor's caches since the last visit. What the visits change of it themselves stands here until it is handed over.
struct Known {
  bool is_steady = false;
  int64_t num_taken = -1;  // of the lock, when this was asked
  int64_t num_full = -1;   // visits of the full way until then
  unsigned long thread = 0;
  Ref state, window, clearing, per_loss, probe, references, not_carried, windows, index, bit;
  Ref optimizer;                     // a reference to the only one
  Ref kinds, places;                 // of call sites
  std::vector<const void*> touched;  // what the marks were asked of
  // Where the loop is. What an event or a step of the running iteration tells stands there.
  bool is_stepping = false, is_used = false, is_clipping = false, is_clear = false, has_ready = false, has_applied = false, has_carried = false,
       is_probed = false, has_xray = false;
  Used last_used = Used::kOther, ready_used = Used::kOther;     // by the last step, and by the next one
  bool is_alone = false;                                        // no other optimizer has stepped beside this one in an iteration
  bool is_heard = false;                                        // something is to be handed over
  bool is_in_backward = false;                                  // of a loss in the running iteration
  bool has_loss = false, has_site = false;                      // in the window, of the backward in the running iteration
  bool are_parted = false;                                      // the backwards of the window: not all of them share a forward pass
  bool has_begun = false, has_ended = false, has_read = false;  // a step, and gradients, since the last time that something was handed over
  Ref loss, captured, clipping;                                 // of the running backward or clip, where Python has them; else `None`
  Ref losses, sites, clips;                                     // of the window: lists, none for a new one without anything in it
  Ref grad_scale, loss_scale, next_scale;                       // of the window, and of the next backward
  Ref ready, step, step_heard;                                  // of the window, where Python has them; else `None`
  Ref last, last_step_site;                                     // of the window, where they are new
  Marks now, marks_before, marks_last;
  int64_t bit_number = 0, num_steps = 0, num_backwards = 0, num_heard = 0, num_heard_before = 0, last_operation = 0, operation = 0;
  double now_s = 0;
  HeardIteration iteration;                      // the running one
  int64_t num_events = 0;                        // in it
  bool has_stepped = false, ends_alone = false;  // it has made a step, and one of this optimizer alone, as ever
  std::vector<HeardIteration> finished;          // those before, the oldest first
  // What is looked at now and then only.
  Ref zeros, flat;  // how often gradients of zeros alone were looked at, by optimizer
  int64_t num_zeros = 0, num_flat = 0;
  Ref reduction, mean;  // the last one that Python has found, of this mean
  int64_t num_heard_in_all = 0, next_look = 0, num_observed = 0, num_at_site = -1, num_probed_steps = 0, probe_due = 0, num_rows = 0, xray_due = 0;
  Ref models, at_site, shapes, looks_at_sharing, sharing, backward_site, shape, calls, operands, parameters_by_model;
  Ref followed_slices;        // of Python
  bool are_followed = false;  // and they were taken
  bool has_kept = false;      // of them what Python does not have yet
  std::vector<FollowedWeight> followed;
  // Of the probe: what is copied of the running step, where nobody else has it yet.
  Ref copies, copies_at, keep_at, compare_at, slices, slice_dtypes;
  int64_t num_scalars = -1, copies_bytes = 0, probe_next = 0, probe_round = 0;
  double probes_s = 0;  // since the last time that something was handed over
  // Of the queue and the budget.
  Ref judged, waiting, columns, epoch;
  int64_t num_together = 0, num_waiting = 0, num_judged = 0, num_budgeted = 0, least_budgeted = 0;
  double oldest_s = 0, budget_start_s = 0, budget_least_s = 0, start_s = 0;
  // Of the reading.
  Ref ids, id_set, plan_columns, positions, numels, whole, table, is_still_so, known_at, entries_at, kernel, instructions, num_collectives,
      num_parameters, rate, lr;
  int64_t num_measured = 0, num_plain = 0, num_sampled = 0, sketch_every = 0, sample_every = 0;
  double plain_s = 0, sampled_s = 0;
  bool has_weights = false;  // whose norms the kernel takes with samples, and where they lie
  Ref weights_table, weights_still_so, weights_known_at, weights_at;
  std::array<KnownLine, kNumEvents> lines;
};

}  // namespace seismograd
