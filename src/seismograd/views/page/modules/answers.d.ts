// What travels between a run and the page, as `views/page_api` answers it. Read by the type
// checker only; nothing of it is shipped.

/** A number of a record. JSON has no such numbers, so they travel as words. */
export type JsonNumber = number | "nan" | "inf" | "-inf" | null | undefined;

/** A text in every language of the page, by language. */
export type Words = Record<string, string>;

export type Severity = "error" | "warning" | "info";

/** An array of numbers with the shape that it has in the run. */
export type Shaped<A> = A & { shape: number[] };
export type Floats = Float32Array | Float64Array;
export type Codes = Int16Array & { shape: number[] };

/** The rows that each column of an answer is of: from `starts` up to, not including, `stops`. */
export interface Columns {
  starts: Int32Array;
  stops: Int32Array;
}

export interface Parameter {
  name: string;
  depth: number | null;
  shape: number[];
  dtype: string;
  numel: number;
  module: string;
  aliases: string[];
  optimizer: number | null;
  group: number | null;
  trainable: boolean;
  compute_dtype: string | null;
}

export interface Finding {
  code: string;
  name: string;
  severity: Severity;
  first_step: number;
  last_step: number;
  first_row: number;
  last_row: number;
  /** That of its first evidence: where the numbers are that it tells. */
  row: number;
  columns: number[];
  parameters: string[];
  evidence: {
    statistic: string;
    parameter: string;
    step: number;
    value: JsonNumber;
    limit: JsonNumber;
  }[];
  cause: Words;
  advice: Words;
  where: string;
  /** The fault shows there, and the mistake is elsewhere. */
  seen_only?: boolean;
  excerpt: string;
  related: string[];
}

export interface RuleStatus {
  code: string;
  name: string;
  status: "clear" | "found" | "not evaluated" | string;
  reason: Words;
}

/** A line of the script that was called, and how often. */
export interface LoopLine {
  kind: string;
  site: number;
  count: number;
  /** Which of the findings are about it. */
  findings: number[];
  /** The statement there; empty where it is not told. */
  source: string;
}

/** What is known of the run as a whole. */
export interface Meta {
  run: {
    name: string;
    script: string;
    created: string;
    seismograd: string;
    torch: string;
    python: string;
    level: string;
    state: RunState;
    /** How it ended, where it did not come to its own end. */
    end: Words | null;
    torn: Words | null;
    /** Of which steps raw values are there, where it is not all. */
    not_kept: Words | null;
  };
  rows: number;
  /** Which step a row is: all from `first` on, or those of some `rows`, [row, step]. */
  steps: { first: number; last: number; rows: [number, number][] };
  parameters: Parameter[];
  /** The columns of the weights that pass a signal on, nearest the input first. */
  layers: number[];
  statistics: string[];
  gain_band: [number, number];
  optimizers: { kind: string; name: string }[];
  sites: { where: string; label: string }[];
  elements: string[];
  findings: Finding[];
  rules: RuleStatus[];
  /** Of the rules that found something, by code: headings and their paragraphs. */
  explanations: Record<string, [heading: Words, paragraphs: Words[]][]>;
  /** The calls of the loop in their order, over so many steps; site -1: no line called it. */
  loop: { steps: number; lines: LoopLine[] };
  /** The rows at which the second and later epochs begin, where they are known. */
  epochs: number[];
  /** Whether histograms were sampled at all. */
  sampled: boolean;
  /** Whether signals of modules were. */
  signals: boolean;
  /** The columns of the weights of which snapshots hold a picture. */
  pictures: number[];
  judged: "now" | "end" | "running";
  /** How the training went, beside what the rules say; null before the first step. */
  training: { learned: boolean; headline: Words; line: Words } | null;
  notes: { kind: string; step: number; text: Words }[];
  codes: { nonfinite: number; not_measured: number; zero: number; absent: number; limit: number };
  histogram: { bins: number; first: number; per_bin: number };
  /** Which call the fault that a rule found is about, by code. */
  fault_kinds: Record<string, string>;
  event_flags: Record<string, number>;
  step_flags: Record<string, number>;
}

/** `Meta` as it travels: parameters that differ in name and depth only are described once. */
export interface PackedMeta extends Omit<Meta, "parameters" | "layers"> {
  parameters?: Parameter[];
  layers: Int32Array | number[];
  names: string[];
  alike: Omit<Parameter, "name" | "depth">[];
  kind: Int32Array;
  depth: Int32Array;
}

/** A statistic of all parameters: `codes` (P, C), thousandths of a decade or a state. */
export interface Heat extends Columns {
  statistic: string;
  which: string;
  codes: Codes;
  /** The stretch that it was asked for. */
  window?: string;
}

/** A heat map as a report holds it: its codes as two planes of bytes. */
export interface PlanarHeat extends Heat {
  low_bytes?: Shaped<Uint8Array>;
  high_bytes?: Shaped<Uint8Array>;
}

/** The scalars of the steps: each array (F, C) in the order of `scalars`. */
export interface Scalars extends Columns {
  scalars: string[];
  low: Floats;
  high: Floats;
  last: Floats;
  nonfinite: Int32Array;
}

/** One parameter over the steps: `NAME.low` and `NAME.high` (C), `counts` (5, C) of its states. */
export type Line = Columns & { counts: Int32Array } & {
  [statistic in `${string}.${"low" | "high"}`]?: Floats;
};

/** Everything about one row; the arrays are those of the parameters (P). */
export interface Step {
  row: number;
  step: number;
  epoch: number;
  flags: number;
  loss: JsonNumber;
  loss_measured: boolean;
  lr: JsonNumber;
  total_norm: JsonNumber;
  fit: Fit | null;
  states: Uint8Array;
  grad_norm: Floats;
  grad_max: Floats;
  zeros: Floats;
  nonfinite: Floats;
  applied_norm: Floats;
  update_ratio: Floats;
  unmoved: Floats;
}

/** The line through the logarithms of the norms over depth. */
export interface Fit {
  row: number;
  step: number;
  /** The norms at both ends, as a finding and a table tell them. */
  ends: {
    first: string;
    last: string;
    first_norm: JsonNumber;
    last_norm: JsonNumber;
    num_passed: number;
    gain: JsonNumber;
  };
  slope: number;
  intercept: number;
  goodness: number;
  columns: number[];
}

/** Counts by binary exponent (S, W) at sampled `rows`. `column` -1: of all parameters. */
export interface Histogram {
  column: number;
  every: number;
  numel: number;
  rows: Int32Array;
  bins: Floats;
}

/** The calls of modules in the sampled step nearest to a row, in the order of execution. */
export type Signals = {
  /** -1: nothing was sampled. */
  step: number;
  modules: [name: string, type: string][];
  /** In words what the layers do to the signal. */
  said: Words[];
  /** What each multiplies the signal by; NaN for what is not on the chain. */
  factor?: Floats;
} & { [field in SignalField]?: Floats } & { [field in `${SignalField}.measured`]?: Uint8Array };

export type SignalField = "rms" | "zeros" | "saturated" | "signal_rms";

/** The units of a weight with the largest gradients in a snapshot (K). */
export interface UnitPictures {
  column: number;
  /** -1: there is no picture. */
  step: number;
  units: number;
  zero_units: number;
  unit: Int32Array;
  norm: Floats;
  largest: Floats;
  zeros: Floats;
  nonfinite: Floats;
  /** (K, planes, height, width): 127ths of each unit's largest magnitude, -128 for non-finite. */
  codes: Shaped<Int8Array>;
}

export interface LoopEvent {
  step: number;
  time_s: JsonNumber;
  kind: EventKind;
  value: JsonNumber;
  limit: JsonNumber;
  scale: JsonNumber;
  site: number;
  optimizer: number;
  flags: number;
}

export type EventKind = "BACKWARD" | "UNSCALE" | "CLIP" | "STEP" | "SCALER_UPDATE" | "ZERO_GRAD";

/** The calls of the loop around a row. */
export interface Timeline {
  row: number;
  steps: number[];
  events: LoopEvent[];
  left_out: number;
  nonfinite?: number[];
}

/** An element of SVG: name, attributes, text, elements in it. */
export type Shape = [tag: string, attributes: Record<string, string>, text: string, inner: Shape[]];

/** One trace per layer over the whole run. */
export interface Seismogram {
  /** Of SVG; the page itself names no address. */
  namespace: string;
  width: number;
  height: number;
  /** Between which of its x the rows lie. */
  left: number;
  right: number;
  smallest: JsonNumber;
  largest: JsonNumber;
  layers: number;
  shapes: Shape[];
  channels: {
    label: string;
    column: number;
    typical: JsonNumber;
    codes: string[];
    nonfinite: number;
  }[];
}

/** One recorded scalar over the steps. */
export interface ElementSeries extends Columns {
  low: Floats;
  high: Floats;
  nonfinite: Uint8Array;
}

export type RunState = "live" | "ended" | "broken";

/** A run in the list of `view`. */
export interface ListedRun {
  index: number;
  name: string;
  script: string;
  created: string;
  rows: number;
  state: RunState;
  end: Words | null;
  findings: Partial<Record<Severity, number>>;
  /** The last loss, and some before it. */
  loss: JsonNumber;
  course: JsonNumber[];
  problem: Words | null;
}

/** What the server says of a run that goes on. */
export interface RunNews {
  version: string;
  rows: number;
  state: RunState;
}

/** The statistics of a step that every parameter has. */
export type Statistic =
  | "grad_norm"
  | "grad_max"
  | "zeros"
  | "nonfinite"
  | "applied_norm"
  | "update_ratio"
  | "unmoved";
