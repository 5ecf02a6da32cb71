// Where answers come from: the server of `view`, or the data that a report holds. Both unpack the same format.

function unpack(buffer) {
  const length = new DataView(buffer).getUint32(0, true);
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
  const kinds = { Int8Array, Uint8Array, Int16Array, Uint16Array, Int32Array, Uint32Array, Float32Array, Float64Array };
  for (const [name, [kind, shape, offset]] of Object.entries(header.arrays)) {
    const size = shape.reduce((product, each) => product * each, 1);
    header[name] = new kinds[`${kind}Array`](buffer, 4 + length + offset, size);
    header[name].shape = shape;
  }
  return header;
}

// What is known of a run: its parameters as objects, which the answer holds as names and what they have in common.
function asMeta(answer) {
  if (!answer.parameters) {
    answer.parameters = answer.names.map((name, column) => ({ ...answer.alike[answer.kind[column]], name, depth: answer.depth[column] < 0 ? null : answer.depth[column] }));
    answer.layers = Array.from(answer.layers);
  }
  return answer;
}

class ServerSource {
  constructor(index) {
    this.index = index;
    this.live = true;
    this.version = "";
    this.kept = new Map();
  }

  async ask(question, given) {
    const url = `run/${this.index}/${question}?${new URLSearchParams(given ?? {})}`;
    const key = `${url}#${this.version}`;
    if (!this.kept.has(key)) {
      const answer = fetch(url, { credentials: "same-origin" }).then(async (response) => {
        if (!response.ok) throw new Error(String(response.status));
        return unpack(await response.arrayBuffer());
      });
      answer.catch(() => this.kept.delete(key));
      this.kept.set(key, answer);
      if (this.kept.size > 60) this.kept.delete(this.kept.keys().next().value);
    }
    return this.kept.get(key);
  }

  async meta() { return asMeta(await this.ask("meta")); }

  // What every page needs, before it is known how long the run is: both at once, and the heat map of the whole run.
  lookAhead(width, statistic, which) {
    this.meta().catch(() => {});
    this.whole = this.ask("heat", { width, statistic, which });
    this.whole.catch(() => {}); // who takes it is told
  }

  async heat(start, stop, width, statistic, which) {
    const whole = this.whole;
    this.whole = null;
    if (whole && start === 0) {
      const answer = await whole;
      if (answer.statistic === statistic && answer.which === which && answer.stops[answer.stops.length - 1] === stop) return answer;
    }
    return this.ask("heat", { start, stop, width, statistic, which });
  }

  scalars(start, stop, width) { return this.ask("scalars", { start, stop, width }); }
  line(column, start, stop, width) { return this.ask("line", { column, start, stop, width }); }
  step(row) { return this.ask("step", { row }); }
  histogram(column, start, stop, width) { return this.ask("histogram", { column, start, stop, width }); }
  lanes(row) { return this.ask("lanes", { row }); }
  element(index, start, stop, width) { return this.ask("element", { index, start, stop, width }); }
  has() { return true; }
}

class ReportSource {
  static async open() {
    const text = document.getElementById("data").textContent.trim();
    const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new ReportSource(await new Response(stream).arrayBuffer());
  }

  constructor(buffer) {
    const outer = unpack(buffer);
    this.answers = new Map();
    for (const [name, [offset, length]] of Object.entries(outer.answers)) {
      const start = outer.bytes.byteOffset + offset;
      this.answers.set(name, [buffer, start, length]);
    }
    this.rows = outer.step_rows;
    this.laneRows = outer.lane_rows;
    this.unpacked = new Map();
  }

  async ask(name) {
    if (!this.answers.has(name)) return null;
    if (!this.unpacked.has(name)) {
      const [buffer, start, length] = this.answers.get(name);
      this.unpacked.set(name, joined(unpack(buffer.slice(start, start + length))));
    }
    return this.unpacked.get(name);
  }

  nearest(row, rows = this.rows) {
    return rows.reduce((best, each) => (Math.abs(each - row) < Math.abs(best - row) ? each : best), rows[0] ?? 0);
  }

  async meta() { return asMeta(await this.ask("meta")); }
  heat(start, stop, width, statistic, which) { return this.ask(`heat/${statistic}/${which}`); }
  scalars() { return this.ask("scalars"); }
  async line(column) { return (await this.ask(`line/${column}`)) ?? fromHeat(await this.ask("heat/grad_norm/high"), column); }
  step(row) { return this.ask(`step/${this.nearest(row)}`); }
  async histogram(column) { return (await this.ask(`histogram/${column}`)) ?? this.ask("histogram/-1"); }
  lanes(row) { return this.ask(`lanes/${this.nearest(row, this.laneRows)}`); }
  element(index) { return this.ask(`element/${index}`); }
  has(name) { return [...this.answers.keys()].some((each) => each.startsWith(name)); }
}

// A heat map whose codes came as two planes of bytes.
function joined(answer) {
  const { low_bytes: low, high_bytes: high } = answer;
  if (!low) return answer;
  answer.codes = Int16Array.from(low, (byte, index) => byte | (high[index] << 8));
  answer.codes.shape = low.shape;
  return answer;
}

// The line of a parameter as far as the heat map tells it: the largest norm of each column.
function fromHeat(heat, column) {
  const width = heat.codes.shape[1];
  const codes = heat.codes.subarray(column * width, (column + 1) * width);
  const high = Float64Array.from(codes, (code) => (Math.abs(code) > 32000 ? (code === -32767 ? 0 : NaN) : 10 ** (code / 1000)));
  const counts = new Int32Array(5 * width);
  const kinds = { 32766: 0, [-32768]: 1, [-32767]: 2, 32767: 4 };
  codes.forEach((code, index) => { counts[(kinds[code] ?? 3) * width + index] = 1; });
  return { starts: heat.starts, stops: heat.stops, counts, "grad_norm.high": high, "grad_norm.low": high };
}
