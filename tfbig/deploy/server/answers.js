// One renderer for each kind of answer: ANSWERS[kind](name, value, context) -> a node, or null.
//   context: {answer: outputs by name, gives: their kinds, labels: names of classes, picture(): what was asked about,
//             shape: height, width, channels of the picture as the model sees it}
const ANSWERS = {
  label(name, value, context) {
    if (Array.isArray(value)) return ["probabilities", "boxes"].some(kind => namesOf(value.length, context, kind)) ? null : make("div", {}, make("h3", {textContent: name}), make("div", {dir: "auto", textContent: value.join(", ")}));
    const text = String(typeof value === "number" && context.labels[value] !== undefined ? context.labels[value] : value);
    return make("div", {className: text.length > 16 ? "label long" : "label", dir: "auto", textContent: text});
  },
  probabilities(name, value, context) {
    if (!Array.isArray(value)) return ANSWERS.number(name, value);
    const names = namesOf(value.length, context, "label") || (context.labels.length === value.length ? context.labels : value.map((_, i) => String(i)));
    const order = value.map((_, i) => i).sort((a, b) => value[b] - value[a]).slice(0, 20), node = make("div", {className: "bars"});
    for (const i of order) {
      const bar = make("i");
      bar.style.width = 100 * Math.min(1, Math.max(0, value[i])) + "%";
      node.append(make("span", {dir: "auto", textContent: names[i]}), bar, make("span", {textContent: (100 * value[i]).toFixed(1) + " %"}));
    }
    return node;
  },
  text: (name, value) => make("pre", {className: "text", dir: "auto", textContent: Array.isArray(value) ? value.join("\n") : String(value)}),
  tokens: (name, value) => make("div", {}, make("h3", {textContent: name}), make("pre", {textContent: [value].flat(9).join(" ")})),
  number(name, value) {
    const shown = typeof value !== "number" ? JSON.stringify(value) : Number.isInteger(value) ? value.toLocaleString("en") : String(Number(value.toPrecision(4)));
    return make("div", {className: "number"}, make("span", {textContent: name}), make("b", {textContent: shown}));
  },
  picture(name, value) {
    if (value && value.b64 !== undefined) return make("img", {className: "shown", alt: name, src: URL.createObjectURL(blobOf(value.b64, ""))});
    const height = value.length, width = value[0].length, canvas = make("canvas", {width, height, className: width < 200 ? "shown small" : "shown"});
    const view = canvas.getContext("2d"), image = view.createImageData(width, height);
    value.flat().forEach((pixel, i) => {
      const part = [pixel].flat();
      image.data.set(part.length > 2 ? [part[0], part[1], part[2], part[3] ?? 255] : [part[0], part[0], part[0], 255], 4 * i);
    });
    view.putImageData(image, 0, 0);
    canvas.setAttribute("role", "img"); canvas.setAttribute("aria-label", name);
    return canvas;
  },
  boxes(name, value, context) {  // top, left, bottom, right, as shares of the picture as the model sees it: the centre of its proportions
    const source = context.picture();
    if (!source) return ANSWERS.json(name, value);
    const [rows, columns] = context.shape || [source.height, source.width], whole = [source.width, source.height];
    const width = Math.min(whole[0], whole[1] * columns / rows), height = Math.min(whole[1], whole[0] * rows / columns);
    const scale = Math.max(1, 340 / width), canvas = make("canvas", {width: Math.round(width * scale), height: Math.round(height * scale), className: "shown"});
    const view = canvas.getContext("2d"), names = namesOf(value.length, context, "label"), thick = Math.max(2, canvas.width / 170);
    view.drawImage(source, (whole[0] - width) / 2, (whole[1] - height) / 2, width, height, 0, 0, canvas.width, canvas.height);
    view.lineWidth = thick; view.font = 6 * thick + "px system-ui, sans-serif"; view.textBaseline = "top";
    value.forEach(([top, left, bottom, right], i) => {
      if (bottom <= top || right <= left) return;  // a place for a box that is none
      view.strokeStyle = view.fillStyle = ["#e69f00", "#56b4e9", "#009e73", "#cc79a7", "#d55e00"][i % 5];
      view.strokeRect(left * canvas.width, top * canvas.height, (right - left) * canvas.width, (bottom - top) * canvas.height);
      if (!names) return;
      const words = String(names[i]), wide = view.measureText(words).width + 2 * thick, high = 7.5 * thick;
      const [x, y] = [Math.max(0, Math.min(left * canvas.width, canvas.width - wide)), Math.max(0, top * canvas.height - high)];
      view.fillRect(x, y, wide, high); view.fillStyle = "#000"; view.fillText(words, x + thick, y + thick / 2);
    });
    canvas.setAttribute("role", "img"); canvas.setAttribute("aria-label", value.length + " boxes" + (names ? ": " + names.join(", ") : ""));
    return canvas;
  },
  audio(name, value) {
    if (!value || value.b64 === undefined) return ANSWERS.json(name, value);
    const player = make("audio", {controls: true, src: URL.createObjectURL(blobOf(value.b64, "audio/wav"))});
    player.setAttribute("aria-label", name);
    return player;
  },
  state: (name, value) => make("div", {}, make("h3", {textContent: name}), make("pre", {textContent: Array.isArray(value) ? value.map(row => JSON.stringify(row)).join("\n") : JSON.stringify(value)})),
  json: (name, value) => make("div", {}, make("h3", {textContent: name}), make("pre", {dir: "auto", textContent: JSON.stringify(value, null, 1)})),
};
function blobOf(b64, type) { return new Blob([Uint8Array.from(atob(b64), letter => letter.charCodeAt(0))], {type}); }
// The list of another kind that says something of as many things: names of probabilities, or of boxes.
function namesOf(count, context, kind) {
  const name = Object.keys(context.gives).find(key => context.gives[key] === kind && Array.isArray(context.answer[key]) && context.answer[key].length === count);
  return name === undefined ? null : context.answer[name];
}
function answerNodes(answer, context) {
  const kinds = Object.entries(context.gives).filter(([name]) => name in answer);
  const shown = kinds.length ? kinds : Object.keys(answer).map(name => [name, "json"]);
  return shown.map(([name, kind]) => {
    try { return (ANSWERS[kind] || ANSWERS.json)(name, answer[name], context); } catch { return ANSWERS.json(name, answer[name]); }
  }).filter(node => node);
}
