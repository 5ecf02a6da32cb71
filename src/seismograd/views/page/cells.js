// The cells of a heat map: what of them lies under a pixel, the scale, the colours. A code is an int16: thousandths of a decade, or a state.

const LOWEST = -32769; // "not measured" while codes are compared: below all others

const rank = (code) => (code === 32766 ? LOWEST : code);

// The smaller of two numbers; what is not a number is worse than either.
function worse(one, two) {
  const special = Math.abs(one) > 32000 || Math.abs(two) > 32000;
  return special ? (one > two ? one : two) : Math.min(one, two);
}

function columnsUnder(heat, pixels) {
  const size = state.stop - state.start;
  const first = new Int32Array(pixels), last = new Int32Array(pixels);
  let column = 0;
  const num = heat.starts.length;
  for (let x = 0; x < pixels; x += 1) {
    const low = state.start + (x * size) / pixels, high = state.start + ((x + 1) * size) / pixels;
    while (column < num && heat.stops[column] <= low) column += 1;
    let end = column;
    while (end + 1 < num && heat.starts[end + 1] < high) end += 1;
    const there = column < num && heat.starts[column] < high;
    first[x] = there ? column : 0;
    last[x] = there ? end : -1;
  }
  return [first, last];
}

// The worst of some parameters in each column first, then of the columns under each pixel.
function reduceRow(heat, columns, first, last, line) {
  const { codes } = heat;
  const width = codes.shape[1], pixels = line.length, lowest = heat.which === "low";
  const merged = new Int32Array(width).fill(LOWEST);
  for (const parameter of columns) {
    const base = parameter * width;
    for (let column = 0; column < width; column += 1) {
      const code = codes[base + column];
      if (code === 32766) continue;
      if (lowest) merged[column] = merged[column] === LOWEST ? code : worse(merged[column], code);
      else if (code > merged[column]) merged[column] = code;
    }
  }
  for (let x = 0; x < pixels; x += 1) {
    let found = LOWEST;
    for (let column = first[x]; column <= last[x]; column += 1) {
      const code = merged[column];
      if (code !== LOWEST) found = found === LOWEST ? code : lowest ? worse(found, code) : Math.max(found, code);
    }
    line[x] = found;
  }
}

// The codes under every pixel of a picture: `bins` lines of `wide` pixels.
function reduceHeat(heat, wide, bins, rowsOf) {
  const [first, last] = columnsUnder(heat, wide);
  const codes = new Int32Array(bins * wide);
  for (let bin = 0; bin < bins; bin += 1) {
    reduceRow(heat, rowsOf(bin).flatMap((row) => row.columns), first, last, codes.subarray(bin * wide, (bin + 1) * wide));
  }
  return codes;
}

// The picture of such codes, `high` pixels high, and above which pixels there is a mark. One of that size from before is used again.
function colourCodes(codes, wide, high, bins, [low, top], palette, before) {
  const colours = lookUp(low, top, palette);
  const image = before?.width === wide && before.height === high ? before : new ImageData(wide, high);
  const pixels = new Int32Array(image.data.buffer);
  if (image === before) pixels.fill(0);
  const marks = new Uint8Array(wide);
  const patterns = paints();
  for (let bin = 0; bin < bins; bin += 1) {
    const from = Math.round((bin * high) / bins), to = Math.round(((bin + 1) * high) / bins), base = bin * wide;
    let isPlain = true;
    for (let x = 0, at = from * wide; x < wide; x += 1, at += 1) {
      const code = codes[base + x];
      if (code >= -32000 && code <= 32000) pixels[at] = colours[code + 32768];
      else if (code !== LOWEST) isPlain = false;
    }
    for (let y = from + 1; y < to; y += 1) pixels.copyWithin(y * wide, from * wide, (from + 1) * wide);
    if (!isPlain) drawStates(codes, base, pixels, wide, from, to, patterns, marks);
  }
  return { image, marks };
}

function drawStates(codes, base, pixels, wide, from, to, patterns, marks) {
  for (let x = 0; x < wide; x += 1) {
    const code = codes[base + x];
    if ((code >= -32000 && code <= 32000) || code === LOWEST) continue;
    if (code === 32767) marks[x] = 1;
    for (let y = from; y < to; y += 1) pixels[y * wide + x] = special(code, x, y, patterns);
  }
}

// The scale: from the smallest of all but half a per cent to the largest, which may stand out by three decades before it is cut.
function scaleOf(heat, isRelative) {
  const counts = new Uint32Array(64001);
  let total = 0, largest = -Infinity;
  const { codes } = heat;
  for (let place = 0; place < codes.length; place += 1) {
    const code = codes[place];
    if (code > 32000 || code < -32000) continue;
    counts[code + 32000] += 1;
    total += 1;
    if (code > largest) largest = code;
  }
  if (!total) return [-3000, 0];
  const at = (share) => {
    let code = 0;
    for (let seen = counts[0]; seen <= share * total && code < 64000; seen += counts[code]) code += 1;
    return code - 32000;
  };
  let low = at(0.005), high = Math.min(largest, at(0.995) + 3000);
  if (isRelative) { const far = Math.max(300, Math.min(3000, Math.max(-low, high))); return [-far, far]; }
  if (high - low < 1000) { const middle = (low + high) / 2; low = middle - 500; high = middle + 500; }
  return [low, high];
}

// The colour of every code there is, so that a pixel is one look-up.
const colourOf = new Int32Array(65536);

function lookUp(low, high, colours) {
  const shown = Int32Array.from({ length: 256 }, (_, index) => packed(along(colours, index / 255)));
  const scale = 255 / (high - low);
  for (let code = -32000; code <= 32000; code += 1) {
    colourOf[code + 32768] = shown[code <= low ? 0 : code >= high ? 255 : Math.round((code - low) * scale)];
  }
  return colourOf;
}

// Not by colour alone: hatched, dotted, striped.
function special(code, x, y, paint) {
  if (code === 32767) return (x + y) % 6 < 2 ? paint.nanDark : paint.nan;
  if (code === -32767) return x % 6 === 2 && y % 6 === 2 ? paint.dot : paint.zero;
  if (code === -32768) return y % 4 === 1 ? paint.absentLine : paint.absent;
  return 0;
}

function paints() {
  const of = (name) => packed(rgb(shades[name]));
  return { nan: of("nan"), nanDark: of("nan-dark"), zero: of("zero"), dot: of("dim"), absent: of("absent"), absentLine: of("absent-line") };
}

// One run divided by another, parameter by parameter: thousandths of a decade again.
function differenceHeat(heat, otherHeat) {
  const places = new Map(state.otherMeta.parameters.map((each, column) => [each.name, column]));
  const width = heat.starts.length;
  const under = columnsOver(otherHeat, heat);
  const codes = new Int16Array(heat.codes.length).fill(32766);
  const line = new Int32Array(width);
  state.meta.parameters.forEach((each, column) => {
    const there = places.get(each.name);
    if (there === undefined) return;
    reduceRow(otherHeat, [there], under[0], under[1], line);
    for (let x = 0; x < width; x += 1) {
      const mine = rank(heat.codes[column * width + x]), its = line[x];
      const numbers = Math.abs(mine) <= 32000 && Math.abs(its) <= 32000;
      codes[column * width + x] = numbers ? clamp(mine - its, -32000, 32000) : mine === 32767 || its === 32767 ? 32767 : 32766;
    }
  });
  codes.shape = heat.codes.shape;
  return { ...heat, codes, which: "high" };
}

// Each parameter divided by its own median over what is shown: what changes is seen beside what is merely large.
function relativeHeat(heat) {
  const [num, width] = heat.codes.shape;
  const codes = Int16Array.from(heat.codes);
  for (let parameter = 0; parameter < num; parameter += 1) {
    const own = codes.subarray(parameter * width, (parameter + 1) * width);
    const numbers = own.filter((code) => code >= -32000 && code <= 32000).sort();
    const middle = numbers[numbers.length >> 1];
    for (let at = 0; at < width; at += 1) if (own[at] >= -32000 && own[at] <= 32000) own[at] = clamp(own[at] - middle, -32000, 32000);
  }
  codes.shape = heat.codes.shape;
  return { ...heat, codes };
}

// Which columns of one heat map lie over those of another.
function columnsOver(heat, base) {
  const first = new Int32Array(base.starts.length), last = new Int32Array(base.starts.length).fill(-1);
  let column = 0;
  for (let x = 0; x < base.starts.length; x += 1) {
    while (column < heat.starts.length && heat.stops[column] <= base.starts[x]) column += 1;
    let end = column;
    while (end + 1 < heat.starts.length && heat.starts[end + 1] < base.stops[x]) end += 1;
    if (column < heat.starts.length && heat.starts[column] < base.stops[x]) { first[x] = column; last[x] = end; }
  }
  return [first, last];
}
