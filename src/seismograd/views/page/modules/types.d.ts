// What the modules of the page hand each other. Read by the type checker only; nothing of it is
// shipped.

import type {
  ElementSeries,
  Finding,
  Heat,
  Histogram,
  Line,
  ListedRun,
  LoopEvent,
  Meta,
  Parameter,
  Scalars,
  Seismogram,
  Signals,
  Step,
  Timeline,
  UnitPictures,
} from "./answers.d.ts";

/** Where answers come from. A report holds some of them only: null is one that it lacks. */
export interface Source {
  live: boolean;
  meta(): Promise<Meta>;
  heat(
    start: number,
    stop: number,
    width: number,
    statistic: string,
    which: string,
  ): Promise<Heat | null>;
  scalars(start: number, stop: number, width: number): Promise<Scalars | null>;
  line(column: number, start: number, stop: number, width: number): Promise<Line | null>;
  step(row: number): Promise<Step | null>;
  histogram(column: number, start: number, stop: number, width: number): Promise<Histogram | null>;
  lanes(row: number): Promise<Timeline | null>;
  signals(row: number): Promise<Signals | null>;
  picture(column: number, row: number): Promise<UnitPictures | null>;
  seismogram(): Promise<Seismogram | null>;
  element(index: number, start: number, stop: number, width: number): Promise<ElementSeries | null>;
  /** Whether there may be an answer whose name begins like this. */
  has(name: string): boolean;
}

/** Where a page is drawn. */
export interface Place {
  root: Document | ShadowRoot;
  /** It has the colours and the language. */
  element: HTMLElement;
  body: HTMLElement;
  /** Where a view of a widget gets its answers. */
  model?: WidgetModel;
  /** Let go of everything, as a view sets it. */
  end?(): void;
  /** Take the colours of the notebook, as a view sets it. */
  follow?(theme: string): void;
}

/** The state that a kernel and the views of its widget share, as anywidget gives it. */
export interface WidgetModel {
  get(name: "answers"): DataView<ArrayBuffer> | Uint8Array<ArrayBuffer> | null;
  get(name: "lang"): string;
  on(event: string, call: () => void): void;
  off(event: string, call: () => void): void;
}

declare global {
  /** In the script of a widget: the view that the modules are run for. */
  const VIEW_OF_WIDGET: Place | undefined;
  /** In the script of a widget: what a view is made of. */
  const WIDGET_PARTS: { style: string; texts: string };
  /** In the script of a widget: run the modules for a view. */
  function openView(view: Place): void;
}

/** A row of the list: one parameter, or a group of them. */
export interface ListedRow {
  label: string;
  columns: number[];
  group: boolean;
}

/** What is looked at, and the answers for it: null until they are there. */
export interface State extends Answers {
  source: Source | null;
  meta: Meta | null;
  other: Source | null;
  otherMeta: Meta | null;
  row: number;
  column: number;
  start: number;
  stop: number;
  /** Whether the cursor stays at the end of a run that goes on. */
  follow: boolean;
  filter: string;
  sort: "depth" | "norm" | "trouble" | "name";
  group: number;
  kind: "auto" | "matrix" | "vector" | "all";
  statistic: string;
  which: string;
  scale: string;
  difference: boolean;
  rows: ListedRow[];
  runs: ListedRun[];
}

export interface Answers {
  heat: Heat | null;
  otherHeat: Heat | null;
  scalars: Scalars | null;
  otherScalars: Scalars | null;
  step: Step | null;
  otherStep: Step | null;
  line: Line | null;
  otherLine: Line | null;
  elementLine: ElementSeries | null;
  histogram: Histogram | null;
  lanes: Timeline | null;
  signals: Signals | null;
  picture: UnitPictures | null;
  seismogram: Seismogram | null;
}

/** What changes, for those who listen. */
export type EventName =
  | keyof Answers
  | "meta"
  | "window"
  | "cursor"
  | "column"
  | "rows"
  | "runs"
  | "scale"
  | "look"
  | "appearance"
  | "tables";

export type Pen = CanvasRenderingContext2D;
export type Rgb = number[];
export type Child = Node | string | null | undefined;
export type CellValue = string | number | null | undefined;
export interface TableContent {
  head: string[];
  rows: CellValue[][];
}

/** A line over the steps. */
export interface PlotLine {
  label: string;
  values: ArrayLike<number>;
  colour: string;
  dash?: number[];
  width?: number;
  scale?: string;
}

/** An entry of the key to the lines; `mark`: it is a mark and no line. */
export type KeyEntry = [label: string, colour: string, dash?: number[], mark?: boolean];

/** The columns of an answer that are in the window: their middles, and which they are. */
export interface Cut {
  rows: number[];
  keep: number[];
  take(values: ArrayLike<number>): number[];
}

/** What an attribute of a new element may be. `never`: the events that a listener takes differ. */
export type Attribute = string | boolean | null | undefined | ((event: never) => void);

export interface PanelParts {
  /** The key of its title. */
  title: string;
  sub(): string;
  /** The events after which it is drawn anew. */
  on: string;
  draw(body: HTMLElement, room: number): void;
  table(): TableContent;
  /** Controls of its own. */
  own?(): Child[];
}

/** What a picture over rows has to say where the pointer is. */
export interface StageKeys {
  column?(y: number): number | undefined;
  aside?(y: number): void;
  hint?(row: number, y: number): string | null;
}

/** Which listed rows lie where in the heat map: in `bins` of `high` pixels each. */
export interface Geometry {
  num: number;
  bins: number;
  height: number;
  high: number;
  of(bin: number): [number, number];
}

/** The colours of what is not a number, as pixels. */
export interface Paints {
  nan: number;
  nanDark: number;
  zero: number;
  dot: number;
  absent: number;
  absentLine: number;
}

export interface Candidate {
  each: Parameter;
  column: number;
}

/** A parameter's norm at one step in the profile over depth. */
export interface Point {
  column: number;
  state: number;
  norm: number;
}

/** A number of the calls of modules, in the order of execution; null: it was not measured. */
export interface SignalCourse {
  values: (number | null)[];
  colour: string;
}

/** A place along the lanes of a step: a forward, a call, a finding, or the gap behind them. */
export interface Slot {
  step: number;
  forward?: number;
  event?: LoopEvent;
  finding?: Finding;
}

/** A line of what is known of a parameter: name, value, class. */
export type Fact = [name: string, value: string, style?: string];

/** Which scales are logarithmic, and between which lines ([high, low]) there is a band. */
export interface PlotOptions {
  log?: Record<string, boolean>;
  pairs?: [number, number][];
  /** Rows at which a step was not finite. */
  marks?: number[];
  axes?: string[];
}
