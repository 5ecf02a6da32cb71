// @ts-check
// The profile of a gradient over depth, from the statistics of the layers: no network is run.
//
// Mean-field theory of signal propagation (Poole et al. 2016, Schoenholz et al. 2017): with random
// weights of variance s²/n and biases of variance b², a wide layer turns inputs of mean square m
// into pre-activations of variance q = s² m + b². Forward, the mean square becomes E f(√q z)²;
// backward, the mean square of the gradient is multiplied by s² E f'(√q z)², z from N(0, 1).
// Where inputs have a mean, a unit is active because its weights point along it, so the part of the
// gradient along the mean passes these units better than the rest: it is followed by itself.
(() => {
  /** @typedef {"linear" | "sigmoid" | "tanh" | "relu"} Activation */
  /**
   * @typedef {object} Settings
   * @property {number} depth layers
   * @property {Activation} activation
   * @property {number} scale standard deviation of a weight × √width; for linear layers their gain
   * @property {number} bias variance of a bias
   * @property {boolean} norm LayerNorm before each activation
   * @property {boolean} residual x + f(x)
   */
  /**
   * @typedef {object} Profile
   * @property {number[]} signal root mean square of the gradient at each layer's output, 1 at the last
   * @property {number[]} weights norm of the gradient of each layer's weights, against the last layer's
   * @property {number} perLayer factor by which a layer multiplies `signal`, over all of them
   * @property {number} weightsPerLayer the same of `weights`
   */

  /** @type {Record<Activation, [(x: number) => number, (x: number) => number]>} */
  const ACTIVATIONS = {
    linear: [(x) => x, () => 1],
    sigmoid: [(x) => 1 / (1 + Math.exp(-x)), (x) => Math.exp(-x) / (1 + Math.exp(-x)) ** 2],
    tanh: [Math.tanh, (x) => 1 - Math.tanh(x) ** 2],
    relu: [(x) => Math.max(0, x), (x) => (x > 0 ? 1 : 0)],
  };
  const REACH = 8; // standard deviations that the integral covers
  const POINTS = 801;
  const WIDTH = 64; // units in a layer, as in the lab

  /**
   * The mean of g(z), z from N(0, 1), by the trapezoidal rule.
   * @param {(z: number) => number} g
   */
  function mean(g) {
    let sum = 0;
    let total = 0;
    for (let k = 0; k < POINTS; k++) {
      const z = -REACH + (2 * REACH * k) / (POINTS - 1);
      const weight = Math.exp((-z * z) / 2);
      sum += weight * g(z);
      total += weight;
    }
    return sum / total;
  }

  /**
   * @param {Settings} settings
   * @returns {Profile}
   */
  function profile(settings) {
    const [f, slope] = ACTIVATIONS[settings.activation];
    const variance = settings.scale ** 2;
    let square = 1; // mean square of a layer's input
    let average = 0; // and its mean
    /** @type {number[]} */
    const inputs = []; // mean square of each layer's input
    /** @type {number[]} */
    const slopes = []; // what the activation, and the normalization, multiply a mean square by
    /** @type {number[]} */
    const along = []; // what passes on along the mean of the input: E z f'(z) / mean square
    /** @type {number[]} */
    const averages = [];
    for (let layer = 0; layer < settings.depth; layer++) {
      inputs.push(square);
      const q = variance * square + settings.bias;
      const spread = settings.norm ? 1 : Math.sqrt(q);
      const output = mean((z) => f(spread * z) ** 2);
      const shift = mean((z) => f(spread * z));
      slopes.push(mean((z) => slope(spread * z) ** 2) / (settings.norm ? q : 1));
      averages.push(average);
      along.push(settings.norm ? 0 : mean((z) => spread * z * slope(spread * z)) / square);
      square = settings.residual ? square + 2 * average * shift + output : output;
      average = settings.residual ? average + shift : shift;
    }
    let gradient = 1; // mean square, at a layer's output
    let common = 1 / WIDTH; // square of its mean: the output's gradient has no direction
    /** @type {number[]} */
    const signal = [];
    /** @type {number[]} */
    const weights = [];
    for (let layer = settings.depth - 1; layer >= 0; layer--) {
      signal.unshift(Math.sqrt(gradient));
      weights.unshift(Math.sqrt(gradient * slopes[layer] * inputs[layer]));
      const kept = settings.residual ? 1 : 0;
      const passed = averages[layer] * along[layer];
      gradient =
        gradient * (kept + variance * slopes[layer]) +
        common * (2 * kept * passed + along[layer] ** 2 * inputs[layer]);
      common *= (kept + passed) ** 2;
    }
    const last = weights[weights.length - 1];
    const relative = weights.map((norm) => norm / last);
    const between = Math.max(1, settings.depth - 1);
    return {
      signal,
      weights: relative,
      perLayer: signal[0] ** (1 / between),
      weightsPerLayer: relative[0] ** (1 / between),
    };
  }

  // Tests compare it with what `seismograd lab chain` measures.
  Object.assign(window, { profile });

  const WORDS = {
    en: {
      title: "Vanishing and exploding, by hand",
      intro:
        "Drag the depth, the scale of the weights and the activation, and see how large the " +
        "gradient is at each layer. Nothing is sent anywhere and no network is run: the curve is " +
        "computed from the formulas, which a test compares with the runs of “seismograd lab chain”.",
      depth: "layers",
      activation: "activation",
      linear: "none (linear)",
      scale: "scale of the weights (standard deviation × √width)",
      preset: "or as initialised by",
      norm: "LayerNorm before each activation",
      residual: "residual: x + f(x)",
      chart: "Gradient at each layer's output, against the last layer's",
      first: "first layer",
      last: "last layer",
      /** @param {string} factor @param {string} first @param {number} depth */
      verdict: (factor, first, depth) =>
        `Each layer multiplies the gradient by ${factor}. Over ${depth} layers, ${first} of it reaches the first one.`,
      vanishing: "It vanishes: the first layers hardly learn.",
      exploding: "It explodes: one step can undo the training.",
      healthy: "It arrives about as large as it left.",
    },
    zh: {
      title: "亲手试试梯度消失与爆炸",
      intro:
        "拖动层数、权重尺度，选择激活函数，观察每一层梯度的大小。页面不发送任何数据，也不运行网络：" +
        "曲线由公式算出，测试会将它与“seismograd lab chain”的实测结果比较。",
      depth: "层数",
      activation: "激活函数",
      linear: "无（线性）",
      scale: "权重尺度（标准差 × √宽度）",
      preset: "或选择初始化方法",
      norm: "激活函数前加 LayerNorm",
      residual: "残差连接：x + f(x)",
      chart: "各层输出处的梯度与最后一层之比",
      first: "第一层",
      last: "最后一层",
      /** @param {string} factor @param {string} first @param {number} depth */
      verdict: (factor, first, depth) =>
        `每经过一层，梯度 ${factor}；共 ${depth} 层，到第一层时累计 ${first}。`,
      vanishing: "梯度消失：前面的层几乎学不到东西。",
      exploding: "梯度爆炸：一步就可能毁掉训练。",
      healthy: "各层梯度大小相当。",
    },
  };

  /** Scale of the weights and variance of the biases. */
  /** @type {Record<string, [number, number]>} */
  const PRESETS = {
    "nn.Linear": [Math.sqrt(1 / 3), 1 / (3 * WIDTH)],
    kaiming_normal_: [Math.SQRT2, 0],
    "xavier_normal_(gain=5/3)": [5 / 3, 0],
    orthogonal_: [1, 0],
  };
  const MARGIN = { left: 64, right: 16, top: 12, bottom: 34 };
  const SIZE = { width: 720, height: 300 };
  const HEALTHY = 30; // between 1/30 and 30 times over all layers

  /** @param {string} id @returns {any} */
  const element = (id) => document.getElementById(id);
  let language = /** @type {"en" | "zh"} */ (navigator.language.startsWith("zh") ? "zh" : "en");
  let bias = PRESETS["nn.Linear"][1];

  /** @param {number} value */
  function number(value) {
    if (value === 0 || !Number.isFinite(value)) return String(value);
    return Math.abs(value) >= 1e-3 && Math.abs(value) < 1e5
      ? Number(value.toPrecision(3)).toLocaleString("en")
      : value.toExponential(1);
  }

  /** @returns {Settings} */
  function settings() {
    return {
      depth: Number(element("depth").value),
      activation: element("activation").value,
      scale: 10 ** Number(element("scale").value),
      bias,
      norm: element("norm").checked,
      residual: element("residual").checked,
    };
  }

  /** @param {Profile} found */
  function draw(found) {
    const logs = found.signal.map((value) => Math.log10(Math.max(value, 1e-300)));
    const low = Math.min(-1, Math.floor(Math.min(...logs)));
    const high = Math.max(1, Math.ceil(Math.max(...logs)));
    const inner = {
      width: SIZE.width - MARGIN.left - MARGIN.right,
      height: SIZE.height - MARGIN.top - MARGIN.bottom,
    };
    /** @param {number} k */
    const x = (k) => MARGIN.left + (logs.length > 1 ? k / (logs.length - 1) : 0.5) * inner.width;
    /** @param {number} power */
    const y = (power) => MARGIN.top + ((high - power) / (high - low)) * inner.height;
    const step = Math.max(1, Math.ceil((high - low) / 6));
    let marks = "";
    for (let power = Math.ceil(low / step) * step; power <= high; power += step) {
      marks += `<path class="${power ? "grid" : "one"}" d="M${MARGIN.left} ${y(power)}H${SIZE.width - MARGIN.right}"/>`;
      marks += `<text x="${MARGIN.left - 8}" y="${y(power) + 4}" text-anchor="end">1e${power}</text>`;
    }
    const points = logs.map((power, k) => `${x(k).toFixed(1)},${y(power).toFixed(1)}`).join(" ");
    const words = WORDS[language];
    element("chart").innerHTML =
      `<title>${words.chart}</title>${marks}<polyline points="${points}"/>` +
      `<text x="${MARGIN.left}" y="${SIZE.height - 10}">${words.first}</text>` +
      `<text x="${SIZE.width - MARGIN.right}" y="${SIZE.height - 10}" text-anchor="end">${words.last}</text>`;
  }

  function update() {
    const chosen = settings();
    const found = profile(chosen);
    const words = WORDS[language];
    const arrived = found.signal[0];
    element("depth-value").textContent = String(chosen.depth);
    element("scale-value").textContent = number(chosen.scale);
    const judged =
      arrived < 1 / HEALTHY ? words.vanishing : arrived > HEALTHY ? words.exploding : words.healthy;
    element("verdict").textContent =
      `${words.verdict(`×${number(found.perLayer)}`, `×${number(arrived)}`, chosen.depth)} ${judged}`;
    draw(found);
  }

  function speak() {
    const words = WORDS[language];
    document.documentElement.lang = language;
    document.title = words.title;
    for (const spoken of document.querySelectorAll("[data-text]")) {
      const name = /** @type {HTMLElement} */ (spoken).dataset.text;
      spoken.textContent = String(words[/** @type {"title"} */ (name)]);
    }
    element("language").textContent = language === "en" ? "中文" : "English";
    update();
  }

  function start() {
    for (const name of Object.keys(PRESETS)) {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = name;
      button.addEventListener("click", () => {
        const [scale, variance] = PRESETS[name];
        element("scale").value = String(Math.log10(scale));
        bias = variance;
        update();
      });
      element("presets").append(button);
    }
    for (const id of ["depth", "activation", "norm", "residual"]) {
      element(id).addEventListener("input", update);
    }
    element("scale").addEventListener("input", () => {
      bias = 0;
      update();
    });
    element("language").addEventListener("click", () => {
      language = language === "en" ? "zh" : "en";
      speak();
    });
    speak();
  }

  start();
})();
