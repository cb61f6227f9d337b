"""Valid studies to begin with, and what may be put into them."""

from typing import Any

from sweeps.study_file import builtin_text

GRID = """
name: densities
description: from the README
data: {name: digits, validation: 0.1}
model: {name: mlp, hidden: [64, 64], activation: relu}
method: {name: set, density: 0.1, distribution: erdos_renyi, drop_fraction: 0.3, update_every: 1ep}
optimizer: {name: sgd, lr: 0.05, momentum: 0.9, weight_decay: 0.0005, batch_size: 64}
epochs: 10
snapshot_every: 5ep
checkpoint_every: 5ep
space:
  - {method.name: dense, seed: [0, 1]}
  - {method.name: [static, set], method.density: [0.05, 0.2], seed: [0, 1]}
distances:
  final: {steps: last}
  evolution: {steps: all, against: first}
"""
SAMPLED = """
name: sampled
data: digits
model: {name: mlp, hidden: [16], activation: srelu}
method: {name: set, density: 0.2, distribution: epsilon, epsilon: 3, mask_output: true}
optimizer: {name: adam, lr: 1e-3, batch_size: 128}
epochs: 3
snapshot_every: 20it
checkpoint_every: 1ep
seed: 3
seeds: {topology: 1, weights: null, data: 2}
space:
  optimizer.lr: {loguniform: [1e-4, 1e-2]}
  method.epsilon: {uniform: [2, 4]}
  model.hidden: {choice: [[8], [8, 8]]}
  seeds.data: {randint: [0, 9]}
  method.new_weights: [zero, normal]
search: {algorithm: random, num_samples: 3, seed: 4}
scheduler: {name: fifo, grace_period: 1}
resources: {cpu: 1, gpu: 0, threads: 1, max_failures: 2}
distances:
  some: {method: joint, shared_indices: true, steps: "0ep,1ep,last", chance: 5,
         where: "method_name == 'set' and seed < 9", include_dense: false}
  listed: {method: reference, steps: [first, last], against: last}
tracking: {uri: "sqlite:///mlflow.db", experiment: mine}
"""
SEARCHED = """
name: searched
data: {name: digits, validation: 0.2}
model: {name: mlp, hidden: [8]}
method: {name: static, density: 0.5, distribution: uniform}
epochs: 4
space: {method.density: {uniform: [0.2, 0.8]}, optimizer.lr: [0.01, 0.1]}
search: {algorithm: optuna, num_samples: 5, metric: validation_loss, mode: min}
scheduler: {name: asha, metric: validation_loss, grace_period: 2, reduction_factor: 3}
"""
SMALLEST = "{name: a, data: digits, model: mlp, method: dense, epochs: 1}"
BASES = [GRID, SAMPLED, SEARCHED, SMALLEST, builtin_text("quickstart")]

_LONG = "x" * 200_000
_LAUGHS = "{" + ", ".join(
    ["a0: &a0 [lol, lol]", *(f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 9)}]" for k in range(1,
    12))]
) + "}"  # fmt: skip

VALUES: list[Any] = [
    None, True, False, 0, 1, -1, 2, 3, 0.5, -0.0, 1e-300, 5e-324, 1e308, 10**30, -(10**30),
    2**31 - 1,
    2**31, 2**53, 2**63, 2**64, 10**400, 1.5, float("nan"), float("inf"), "", " ", "\n", "x", "é",
    "\u202e\u0000", "\U0001f600" * 50, _LONG, "../..", "/", "~", "~nobody-of-this-name/x", "$HOME",
    "a\0b", "null", "digits", "set", "dense", "0.5", "1e5", "nan", "1ep", "0ep", "999999999999ep",
    "5 ep", "10it", "last", "first", "all", "0ep,1ep", "a" * 300, "a/" * 3000, [], {}, [[]], [None],
    [0], [1, 2, 3], [0.1, 0.2], ["a", "b"], [{}], {"name": "set"}, {"name": "mlp"}, {"a": 1},
    {"uniform": [0, 1]}, {"uniform": [-1.7e308, 1.7e308]}, {"randint": [-1e300, 5]},
    {"randint": [-(10**18), 10**15]}, {"loguniform": [1e-320, 1e300]}, {"choice": []},
    {"choice": [None, {}, [], 10**30]}, {"uniform": 3}, {"uniform": [1]}, {"uniform": "ab"},
    {"uniform": [0.2, 0.2]}, {"randint": [0, 1], "choice": [1]}, {"gauss": [0, 1]},
    {"uniform": {0.1: 1, 0.2: 2}}, [10**6] * 3, [10**6] * 900, [20_000, 20_000], [64] * 999,
    list(range(3000)), [k / 4000 for k in range(1, 3000)], [float("nan")], [True], {1: 2},
    {True: 1},
    {None: 1}, {1.5: []}, b"\x00\xff", "http://[::1", "postgresql://u:secret@h/d", "sqlite:///",
]  # fmt: skip

# What only YAML can say; none of it holds a line break.
RAW = [
    "!!python/object/apply:os.system [echo]", "!!python/name:os.system x", "!!python/tuple [1, 2]",
    "!foo bar", "!!int ''", "!!float ''", "!!int abc", "!!bool maybe", "!!null x", "!!timestamp x",
    "!!binary '*'", "!!binary aGk=", "!!set {a, b}", "!!omap [a: 1]", "!!pairs [a: 1]", "!!map x",
    "!!map xy", "!!map [x]", "!!map [[x, y]]", "!!seq x", "!!seq {a: 1}", "!!str [a]", "!!str 5",
    "2001-01-01", "2001-99-99", "2001-01-01T00:00:00Z", "12:30:45", "1:30.5",
    "190:20:30" + ":59" * 99,
    "0x" + "f" * 5000, "0b" + "1" * 20_000, "9" * 4000, "9" * 5000, "0o17", "017", "1_000", "0x_",
    "._",
    ".nan", "-.inf", ".inf", "1e999", "1e-999", "1e400", "1e5", "yes", "off", "~", "=", "<<",
    "&a [*a]",
    "&a {b: *a}", "*undefined", "{<<: 5}", "{<<: [1]}", "{<<: *undefined}",
    "{<<: {a: 1}, <<: {b: 1}}",
    "{a: 1, a: 2}", "{? [a] : b}", "{? {a: 1} : b}", "{? !!timestamp x : b}", "{=: 1}", "{~: 1}",
    "{true: 1}", "{1: 1, 1.0: 2, true: 3}", "[1, 2", "{a: 1", "'open", '"\\ud800"', '"\\x00"',
    '"\\q"',
    '"\\u2028"', "[" * 90 + "]" * 90, "[" * 400 + "]" * 400, "[" * 5000,
    "{a: " * 60 + "1" + "}" * 60,
    "- x", "? x", "%x", "@x", "`x", "!", "&", "*", "|", ">", "---", "...", "# x", ": x", "x: y",
    "\tx",
    _LAUGHS, "[&d {steps: last}, *d]", "!!python/object/new:type [x]", "!!value x", "!!merge x",
]  # fmt: skip

KEYS: list[Any] = [
    "", "x", "naem", "method.density", "model.hidden", "seed", "seeds", "seeds.topology",
    "data.path",
    "method.name", "method.density.x", ".", "..", "a.b.c", "__class__", "name", "path", "é",
    "\u202e",
    "a\nb", "a\rb", _LONG, 1, 1.5, True, False, "<<", "=", "uniform", "choice", "../up", "a b",
    "final", "model_config", "epochs", "data.checksum", "resources.cpu", "x" * 70,
]  # fmt: skip

WHERES = [
    "", " ", "x", "seed", "seed <", "seed == seed", "seed < 'a'", "seed in 3",
    "seed in method_name",
    "1 < 2 < 3", "[1] == [1]", "(seed)", "seed = 1", "seed ** 9 ** 9 ** 9", "'a' * 9 == 'a'",
    "__import__('os')", "(lambda: 1)()", "seed.real", "seed[0]", "f'{seed}'", "b'x' == seed", "...",
    "1j == seed", "not" * 600, "not " * 400 + "seed", "(" * 150 + "seed" + ")" * 150,
    "-" * 900 + "1 < 2",
    "seed < 0x" + "f" * 1900, "seed < " + "9" * 1900, "seed < 1e999", "seed == None",
    "seed is None",
    "a\0b", "'\ud800' == seed", "seed < 1 # x", "seed <\n1", "seed < 1\\", "\ufeffseed < 1",
    "\fseed < 1",
    "ſeed < 1", "seed < 1 and " * 100 + "True", "seed if seed else seed", "(yield)",
    "[x for x in y]",
    "seed := 1", "*seed", "seed,", "{}", "{seed}", "x" * 1999, "x" * 2001, "step < 3 and nnz > 2",
    "density < 1", "steps_per_epoch > 1", "'" * 7, "seed < 1;2", "\u2028seed<1", "seed\x0b<1",
    "0777 < 1",
]  # fmt: skip

STEPS: list[Any] = [
    "", ",", "last,", "first,last,all", "LAST", "0ep", "0it", "-1ep", "1.5ep", "1e5ep", "99ep",
    "1ep,99ep",
    "999999999999ep", "9999999999999ep", "１ep", " 1ep ", "1 ep", "ep", "last;first",
    "0ep," * 20_000 + "0ep",
    [], ["last"], ["0ep", "1it"], [0], [None], [["last"]], ["last,first"], {"last": 1}, 1, True,
    None, 1e9,
    "last\n", "\tlast",
]  # fmt: skip

_HUGE = {key: list(range(1000)) for key in ("seed", "seeds.data", "seeds.weights")}
_WIDE = {"method.density": [k / 500 for k in range(1, 400)], "seed": [0, 1]}
SPACES: list[Any] = [
    _HUGE, [_HUGE, _HUGE], _WIDE, [_WIDE] * 3, {**_HUGE, "method.density": {"uniform": [0.1, 0.2]}},
    [{}] * 5, [{}, {"seed": 1}], [], {}, None, [None], "seed", 5, [[{"seed": 1}]],
    {"seed": None},
    {"seed": {}}, {"seed": [[0, 1]]}, {"seed": [0, "0", 0.0, True]},
    {"seed": list(range(9999))},
    {"seeds": [1]}, {"seeds.topology": [None, 3]}, {"data.path": ["/x"]},
    {"data.name": ["mnist"]},
    {"method": ["set"]}, {"method": {"name": "set"}}, {"model.hidden": [[8], [8, 8], 8]},
    {"method.density": {"uniform": [0, 1e-300]}}, {"epochs": [1, 2**31 - 1]}, {"epochs": 10**9},
    {"method.density": {"uniform": [0.1, 0.9]}, "optimizer.batch_size": {"randint": [1, 2000]}},
    {"optimizer.batch_size": list(range(1, 300))}, {"model.hidden": [[k] for k in range(1,
    300)]},
    {k: {"uniform": [0.1, 0.2]} for k in ("method.density", "optimizer.lr", "data.validation")},
    {"seed": {"choice": list(range(5000))}}, {"seed": {"choice": [[1], {}]}},
]  # fmt: skip
SEARCHES: list[Any] = [
    None, {}, {"algorithm": "grid"}, {"algorithm": "random"}, {"algorithm": "optuna"},
    {"algorithm": "random", "num_samples": 10**9}, {"algorithm": "optuna",
    "num_samples": 10**9},
    {"algorithm": "random", "num_samples": 700}, {"algorithm": "grid", "num_samples": 10**30},
    {"algorithm": "optuna", "num_samples": 10**30}, {"algorithm": "random", "seed": 2**31},
]  # fmt: skip

# Allowed types, extreme sizes.
SIZES: dict[str, list[Any]] = {
    "epochs": [1, 2**31 - 1, 10**6], "snapshot_every": ["1it", "1ep", "999999999999ep"],
    "checkpoint_every": ["1it", "999999999999it"], "seed": [2**31 - 1],
    "model": [{"name": "mlp", "hidden": h} for h in
              ([1], [10**6], [10**6] * 20, [7000, 7000], [20_000, 20_000], [1] * 1000,
              [2000] * 9)],
    "optimizer": [{"name": n, "lr": lr, "batch_size": b} for n in ("sgd", "adam")
                  for lr in (5e-324, 1e308) for b in (1, 1289, 10**9)],
    "method": [{"name": "set", "density": d} for d in (5e-324, 1e-9, 1.0)]
              + [{"name": "static", "distribution": "epsilon", "epsilon": e}
                 for e in (5e-324, 1e-3, 1e9, 1e308)]
              + [{"name": "set", "density": 0.5, "update_every": "1it"}],
    "resources": [{"cpu": 0.01}, {"cpu": 1e300}, {"gpu": 1e300}, {"threads": 1024},
                  {"max_failures": 10**30}],
    "scheduler": [{"name": "asha", "reduction_factor": 10**30}, {"name": "asha",
    "grace_period": 10**30}],
    "data": [{"name": "digits", "validation": v} for v in (0, 0.5, 1e-9, 5e-324)]
            + [{"name": "mnist", "path": p} for p in
               ("", ".", "/", "~", "~nobody-of-this-name", "a\0b", "x" * 5000,
               "/proc/self/mem")],
    "description": ["x" * 300_000, "a\nb", ""],
    "distances": [{f"d{k}": {"where": "seed < 3"} for k in range(3000)}],
    "tracking": [{"uri": u} for u in
                 ("", "http://", "http://[::1", "http://h:99999", "sqlite:///", "file:///x",
                  "postgresql://u:p@h/d", "mssql://h/d", "x" * 9999, "http://h\n/", "***")],
}  # fmt: skip
