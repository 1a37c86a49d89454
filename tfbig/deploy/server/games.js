// Games as plain JavaScript, by the rules of tfbig/data; what the page plays beside a served policy.
//   GAMES[name](settings) -> {keys, seen(), legal(), act(action), draw(pen)}: a new game; keys: of the keyboard -> action
//   act: one step -> {reward, over}; seen: the observation as the policy takes it; legal: 1 for each action that is allowed
const BOARD_COLOURS = {paddle: "#66c2a5", ball: "#fc8d62", trail: "#73483a", brick: "#8da0cb", wall: "#5a5a66", agent: "#fc8d62", key: "#ffd933", door: "#99662f", goal: "#66c2a5", ground: "#141414"};
const planes = (height, width, count) => [...Array(height)].map(() => [...Array(width)].map(() => Array(count).fill(0)));
const anyOf = count => Math.floor(Math.random() * count);
function drawCells(pen, width, height, colourAt) {  // a board of cells, each of one colour; "" for the ground
  const side = pen.canvas.width / width;
  pen.canvas.height = Math.round(side * height);
  for (let row = 0; row < height; row++) for (let column = 0; column < width; column++) {
    pen.fillStyle = colourAt(row, column) || BOARD_COLOURS.ground;
    pen.fillRect(column * side, row * side, side - 1, side - 1);
  }
}
const GAMES = {
  bricks(settings) {
    const side = 10, right0 = Math.random() < .5, bricks = new Set();
    let row = 3, column = right0 ? 0 : side - 1, down = 1, right = right0 ? 1 : -1, paddle = 4, trail = [row, column], last = 0, steps = 0;
    const wall = () => { for (let r = 1; r < 4; r++) for (let c = 0; c < side; c++) bricks.add(r * side + c); };
    wall();
    return {
      keys: {ArrowLeft: 1, ArrowRight: 2, ArrowDown: 0, " ": 0},
      seen() {
        const board = planes(side, side, 4);
        board[side - 1][paddle][0] = board[row][column][1] = board[trail[0]][trail[1]][2] = 1;
        for (const brick of bricks) board[Math.floor(brick / side)][brick % side][3] = 1;
        return board;
      },
      legal: () => [1, 1, 1],
      act(action) {
        last = Math.random() < settings.sticky ? last : action;
        paddle = Math.min(side - 1, Math.max(0, paddle + (last === 2) - (last === 1)));
        trail = [row, column]; steps++;
        let next = column + right, below = row + down, reward = 0, over = false, back = false;
        if (next < 0 || next >= side) { right = -right; next = column; }
        if (below < 0) { below = 0; down = 1; }
        if (bricks.delete(below * side + next)) { reward = 1; back = true; }
        else if (below === side - 1) {
          if (!bricks.size) wall();
          if (paddle === column) back = true;
          else if (paddle === next) { back = true; right = -right; }
          else over = true;
        }
        if (back) down = -down; else row = below;
        column = next;
        return {reward, over: over || steps >= settings.most_steps};
      },
      draw(pen) {
        drawCells(pen, side, side, (r, c) => r === row && c === column ? BOARD_COLOURS.ball : r === side - 1 && c === paddle ? BOARD_COLOURS.paddle
          : bricks.has(r * side + c) ? BOARD_COLOURS.brick : r === trail[0] && c === trail[1] ? BOARD_COLOURS.trail : "");
      },
    };
  },
  keys_and_doors(settings) {
    const {side, doors: count} = settings, at = (r, c) => r * side + c, moves = [[-1, 0], [1, 0], [0, -1], [0, 1]];
    const walls = new Set(), keys = new Set(), doors = new Set(), ends = [...Array(count)].map((_, i) => Math.floor((side + 1) * (i + 1) / (count + 1)) - 1);
    const cell = (first, end, other) => { let place; do place = [anyOf(side), first + anyOf(end - first)]; while (other && String(place) === String(other)); return place; };
    let place = cell(0, ends.length ? ends[0] : side), carried = 0, steps = 0, first = 0;
    for (const end of ends) {
      const gate = anyOf(side);
      for (let r = 0; r < side; r++) (r === gate ? doors : walls).add(at(r, end));
      keys.add(at(...cell(first, end, place)));
      first = end + 1;
    }
    const goal = cell(first, side, place);
    const open = ([r, c]) => r >= 0 && c >= 0 && r < side && c < side && !walls.has(at(r, c)) && !(doors.has(at(r, c)) && !carried);
    const there = action => moves[action].map((move, i) => place[i] + move);
    return {
      keys: {ArrowUp: 0, ArrowDown: 1, ArrowLeft: 2, ArrowRight: 3},
      seen() {
        const board = planes(side, side, 6);
        for (const [plane, set] of [[0, walls], [2, keys], [3, doors]]) for (const one of set) board[Math.floor(one / side)][one % side][plane] = 1;
        board[place[0]][place[1]][1] = board[goal[0]][goal[1]][4] = 1;
        for (const line of board) for (const one of line) one[5] = Number(carried > 0);
        return board;
      },
      legal: () => moves.map((_, action) => Number(open(there(action)))),
      act(action) {
        if (open(there(action))) place = there(action);
        carried += keys.delete(at(...place)) - doors.delete(at(...place)); steps++;
        const arrived = String(place) === String(goal), most = 4 * side * side;
        return {reward: arrived ? 1 - .9 * steps / most : 0, over: arrived || steps >= most};
      },
      draw(pen) {
        drawCells(pen, side, side, (r, c) => r === place[0] && c === place[1] ? BOARD_COLOURS.agent : keys.has(at(r, c)) ? BOARD_COLOURS.key : doors.has(at(r, c)) ? BOARD_COLOURS.door
          : r === goal[0] && c === goal[1] ? BOARD_COLOURS.goal : walls.has(at(r, c)) ? BOARD_COLOURS.wall : "");
      },
    };
  },
  connect_four(settings) {
    const height = 6, width = 7, board = planes(height, width, 2), columns = [...Array(width).keys()];
    const free = column => board.findLastIndex(line => !line[column][0] && !line[column][1]);
    const open = () => columns.filter(column => free(column) >= 0);
    const four = player => board.some((line, row) => line.some((_, column) => [[0, 1], [1, 0], [1, 1], [1, -1]].some(([down, right]) =>
      [0, 1, 2, 3].every(i => board[row + i * down]?.[column + i * right]?.[player]))));
    function drop(player, column) { const row = free(column); board[row][column][player] = 1; return row; }
    const wins = player => open().filter(column => { const row = drop(player, column), won = four(player); board[row][column][player] = 0; return won; });
    function answer() {
      const sees = settings.opponent === "one_ply" ? [...wins(1), ...wins(0)] : [];
      return sees.length ? sees[0] : open()[anyOf(open().length)];
    }
    if (Math.random() < .5) drop(1, anyOf(width));
    return {
      keys: Object.fromEntries(columns.map(column => [String(column + 1), column])),
      seen: () => board.map(line => line.map(cell => [...cell])),
      legal: () => columns.map(column => Number(free(column) >= 0)),
      act(action) {
        drop(0, action);
        if (four(0)) return {reward: 1, over: true};
        if (open().length) drop(1, answer());
        const lost = four(1);
        return {reward: lost ? -1 : 0, over: lost || !open().length};
      },
      draw(pen) { drawCells(pen, height, width, (r, c) => board[r][c][0] ? BOARD_COLOURS.ball : board[r][c][1] ? BOARD_COLOURS.key : ""); },
    };
  },
};
function drawLine(canvas, values) {  // a line through values, with the zero where it lies between them
  const pen = canvas.getContext("2d"), low = Math.min(0, ...values), high = Math.max(1e-6, ...values), style = getComputedStyle(canvas);
  const y = value => 4 + (canvas.height - 8) * (high - value) / (high - low);
  pen.clearRect(0, 0, canvas.width, canvas.height);
  pen.lineWidth = 2; pen.strokeStyle = style.getPropertyValue("--accent"); pen.beginPath();
  values.forEach((value, i) => pen.lineTo(4 + (canvas.width - 8) * i / Math.max(1, values.length - 1), y(value)));
  pen.stroke();
}
// The widget of a state that belongs to a game: play it by keys or buttons, or watch the policy play.
//   form.game: {name, settings, actions}; changed() asks the policy and gives its answer
WIDGETS.game = (name, input, form, changed) => {
  const canvas = make("canvas", {className: "board", width: 320, height: 320, tabIndex: 0, id: "game_" + name});
  const curve = make("canvas", {className: "curve", width: 320, height: 64}), told = make("p", {className: "soft"});
  const watch = make("button", {className: "main", textContent: "Watch it play"}), again = make("button", {textContent: "New game"});
  const buttons = form.game.actions.map((word, action) => make("button", {textContent: word, onclick: () => act(action)}));
  let game, total, steps, over, values, watching = false;
  canvas.setAttribute("role", "img");
  curve.setAttribute("role", "img"); curve.setAttribute("aria-label", "what the policy thinks each state is worth");
  function tell() {
    game.draw(canvas.getContext("2d"));
    told.textContent = "Score " + Number(total.toFixed(3)) + " after " + steps + (steps === 1 ? " step" : " steps") + (over ? ": the game is over." : ".");
    canvas.setAttribute("aria-label", form.game.name.replaceAll("_", " ") + ". " + told.textContent);
    const legal = game.legal();
    buttons.forEach((button, action) => { button.disabled = over || watching || !legal[action]; });
    watch.textContent = watching ? "Stop" : "Watch it play"; watch.disabled = over;
    curve.hidden = values.length < 2;
    if (values.length > 1) drawLine(curve, values);
  }
  function start() { watching = false; game = GAMES[form.game.name](form.game.settings); total = steps = 0; over = false; values = []; tell(); }
  function takeStep(action) {
    if (over || !game.legal()[action]) return;
    const result = game.act(action);
    total += result.reward; steps++; over = result.over; tell();
  }
  async function asked() {
    const answer = await changed();
    if (answer && Number.isFinite(answer.value)) values.push(answer.value);
    return answer;
  }
  async function act(action) { takeStep(action); if (!over) { await asked(); tell(); } }
  async function play() {
    if (watching) { watching = false; tell(); return; }
    const own = game;
    watching = true; tell();
    while (watching && !over && own === game) {
      const before = performance.now(), answer = await asked();
      if (!answer || !watching || own !== game) break;
      takeStep(answer.action);
      await new Promise(done => setTimeout(done, Math.max(0, 90 - (performance.now() - before))));
    }
    if (own === game) { watching = false; tell(); }
  }
  watch.addEventListener("click", play); again.addEventListener("click", start);
  canvas.addEventListener("keydown", event => {
    const action = game.keys[event.key];
    if (action === undefined || watching) return;
    act(action); event.preventDefault();
  });
  start();
  return {
    node: [canvas, told, make("div", {className: "row"}, watch, again), make("div", {className: "row"}, ...buttons),
      make("p", {className: "soft", textContent: "Play by the buttons, or by the keyboard on the board; what the policy would do is shown beside it."}), curve],
    clear: start, legal: () => game.legal(), value: async () => game.seen(),
  };
};
