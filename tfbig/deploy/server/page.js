let models = [], widgets = {}, asked = 0, writing = null;

function headers() {
  const token = at("token").value;
  return token ? {"Content-Type": "application/json", "Authorization": "Bearer " + token} : {"Content-Type": "application/json"};
}
function chosen() { return models[at("model").selectedIndex]; }
async function load() {
  const response = await fetch("models.json", {headers: headers()});
  at("guard").hidden = response.status !== 401;
  if (!response.ok) { at("wrong").textContent = response.status === 401 ? "This server asks for a token." : "The server answers " + response.status + "."; return; }
  at("wrong").textContent = "";
  models = (await response.json()).models.filter(model => model.state === "AVAILABLE");
  at("model").replaceChildren(...models.map(model => new Option(model.name + ", version " + model.version)));
  choose();
}
function choose() {
  const model = chosen();
  if (!model) { at("about").textContent = "No model is loaded."; return; }
  const metrics = Object.entries(model.metrics || {}).filter(([, value]) => value !== null).map(([name, value]) => name + " " + value.toPrecision(4)).join(", ");
  at("about").textContent = metrics ? "on its test split: " + metrics : "";
  halt();
  const writes = model.writes;
  at("writer").hidden = at("written").hidden = !writes; at("asker").hidden = at("answer").hidden = !!writes;
  if (writes) {
    at("max_tokens").max = writes.limit;
    for (const name of ["temperature", "top_k", "top_p"]) at(name).value = writes[name] ?? "";
    at("max_tokens").value = writes.length;
  }
  widgets = {};
  const inputs = writes ? [] : Object.entries(model.inputs || {}), rank = name => Number("legal_of" in (((model.media || {}).forms || {})[name] || {}));
  for (const [name, input] of inputs.sort(([a], [b]) => rank(a) - rank(b))) widgets[name] = widgetOf(model, name, input);
  at("inputs").replaceChildren(...Object.values(widgets).filter(widget => widget.node.length).map(widget => make("div", {className: "widget"}, ...widget.node)));
  clear();
}
function widgetOf(model, name, input) {
  const media = model.media || {}, medium = (media.takes || {})[name], form = (media.forms || {})[name] || {};
  if (form.game && GAMES[form.game.name]) return WIDGETS.game(name, input, form, ask);
  if (form.legal_of && widgets[form.legal_of]) return {node: [], clear() {}, value: async () => widgets[form.legal_of].legal()};
  const encoded = ["picture", "text", "samples", "video", "sequence"].includes(medium);
  const fits = medium && encoded === (input.dtype === "string");
  return (fits && WIDGETS[medium] || WIDGETS.json)(name, input, form, ask);
}
function clear() {
  asked++;
  for (const widget of Object.values(widgets)) widget.clear();
  for (const id of ["answer", "written", "time", "wrong"]) at(id).replaceChildren();
}
async function ask() {
  const model = chosen(), turn = ++asked, row = {};
  if (!model) return;
  try { for (const [name, widget] of Object.entries(widgets)) row[name] = await widget.value(); }
  catch (error) { at("wrong").textContent = error.message; return; }
  at("wrong").textContent = "";
  const before = performance.now();
  let response, answer;
  try {
    const url = "v1/models/" + encodeURIComponent(model.name) + "/versions/" + model.version + ":predict";
    response = await fetch(url, {method: "POST", headers: headers(), body: JSON.stringify({signature_name: (model.media || {}).signature, instances: [row]})});
    answer = await response.json();
  } catch (error) { at("wrong").textContent = "The server does not answer: " + error.message; return; }
  if (turn !== asked) return;
  at("time").textContent = "answered in " + (performance.now() - before).toFixed(1) + " ms";
  at("wrong").textContent = response.ok ? "" : answer.error; at("guard").hidden = response.status !== 401;
  at("answer").replaceChildren(...(response.ok ? shown(model, answer.predictions[0]) : []));
  return response.ok ? answer.predictions[0] : undefined;
}
function shown(model, first) {
  const media = model.media || {}, gives = media.gives || {}, names = Object.keys(gives);
  const several = first && typeof first === "object" && !Array.isArray(first) && first.b64 === undefined;
  const answer = several ? first : {[names.length === 1 ? names[0] : "answer"]: first};  // one output comes bare
  const given = Object.values(widgets).find(widget => widget.picture);
  const heard = Object.values(widgets).find(widget => widget.sound);
  const typed = Object.values(widgets).find(widget => widget.letters);
  return answerNodes(answer, {answer, gives, labels: model.labels || [], picture: () => given && given.picture(), letters: () => typed ? typed.letters() : "", sound: () => heard && heard.sound()});
}
function halt() {
  if (writing) writing.abort();
  writing = null; at("halt").disabled = true;
}
async function write() {
  halt();
  const model = chosen(), control = writing = new AbortController(), before = performance.now();
  const body = {model: model.name + "/" + model.version, prompt: at("prompt").value, stream: true};
  for (const name of ["max_tokens", "temperature", "top_k", "top_p", "seed"]) if (at(name).value !== "") body[name] = Number(at(name).value);
  if (at("stop").value) body.stop = at("stop").value;
  at("halt").disabled = false; at("written").textContent = ""; at("wrong").textContent = ""; at("time").textContent = "";
  let made = 0, first = 0;
  const told = end => {
    const now = performance.now(), rate = made > 1 && now > first ? ", " + ((made - 1) / (now - first) * 1e3).toFixed(1) + " tokens/s" : "";
    at("time").textContent = made + " tokens in " + ((now - before) / 1e3).toFixed(2) + " s" + rate + end;
  };
  const take = event => {
    if (event.error) { at("wrong").textContent = event.error.message; return; }
    const one = event.choices[0];
    made = event.usage ? event.usage.completion_tokens : made + 1;
    first = first || performance.now();
    at("written").textContent += one.text;
    told(one.finish_reason ? {stop: ", at its end", length: ", as long as asked for", abort: ", ended by the server"}[one.finish_reason] : "");
  };
  try {
    const response = await fetch("v1/completions", {method: "POST", headers: headers(), body: JSON.stringify(body), signal: control.signal});
    at("guard").hidden = response.status !== 401;
    if (!response.ok) { at("wrong").textContent = (await response.json()).error.message; return; }
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    for (let held = ""; ;) {
      const {value, done} = await reader.read();
      if (done) break;
      const parts = (held + value).split("\n\n");
      held = parts.pop();
      for (const part of parts) if (part !== "data: [DONE]") take(JSON.parse(part.slice(6)));
    }
  } catch (error) {
    if (error.name === "AbortError") { if (writing === null) told(", stopped"); } else at("wrong").textContent = "The server does not answer: " + error.message;
  } finally { if (writing === control) halt(); }
}
// Files that are dropped or pasted go to the widget they fall upon, else to the first that takes any.
function given(files, target) {
  const taking = Object.values(widgets).filter(widget => widget.picked);
  const widget = taking.find(one => one.node.some(node => node.contains(target))) || taking[0];
  if (files.length && widget) widget.picked([...files]);
}
for (const name of ["dragover", "dragleave", "drop"]) document.addEventListener(name, event => {
  if (name !== "dragleave" && [...event.dataTransfer.types].includes("Files")) event.preventDefault();
  for (const zone of document.querySelectorAll(".drop")) zone.classList.toggle("over", name === "dragover");
  if (name === "drop") given(event.dataTransfer.files, event.target);
});
document.addEventListener("paste", event => given(event.clipboardData.files, event.target));
at("ask").addEventListener("click", ask); at("clear").addEventListener("click", clear); at("model").addEventListener("change", choose);
at("unlock").addEventListener("click", load); at("write").addEventListener("click", write); at("halt").addEventListener("click", halt);
at("writer").addEventListener("keydown", event => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { write(); event.preventDefault(); } else if (event.key === "Escape") halt();
});
at("inputs").addEventListener("keydown", event => { if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { ask(); event.preventDefault(); } });
at("token").addEventListener("keydown", event => { if (event.key === "Enter") load(); });
load().catch(error => { at("wrong").textContent = "The list of models cannot be read: " + error.message; });
