"""Writes the vectors of Yuma 1, 2 and 3 to dn-sim/tests/vectors/yuma.json, or checks them with --check.

Needs Python 3.8 or later and nothing else. Written from the formulas of subtensor's docs/consensus.md and of the three versions'
descriptions, in plain floats, cell by cell; it shares no code with the Rust crate and knows neither fixed point nor pivots.
"""
import json
import math
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
TARGET = os.path.join(HERE, "..", "..", "dn-sim", "tests", "vectors", "yuma.json")


class Rng:
    """splitmix64."""

    def __init__(self, seed):
        self.state = seed

    def below(self, n):
        self.state = (self.state + 0x9E3779B97F4A7C15) % 2 ** 64
        z = self.state
        z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 % 2 ** 64
        z = (z ^ z >> 27) * 0x94D049BB133111EB % 2 ** 64
        return (z ^ z >> 31) % n


def shares(values):
    total = sum(values)
    return [v / total if total else 0.0 for v in values]


def columns_as_shares(matrix):
    turned = [shares([row[j] for row in matrix]) for j in range(len(matrix[0]))]
    return [[turned[j][i] for j in range(len(turned))] for i in range(len(matrix))]


def consensus(stake, column, kappa):
    """The largest vote that a share kappa of stake reaches; tried one by one."""
    votes = [(w, s) for w, s in zip(column, stake) if s > 0]
    if not votes:
        return 0.0
    reached = [v for v, _ in votes if sum(s for w, s in votes if w >= v) >= kappa]
    return max(reached) if reached else min(v for v, _ in votes)


def rate(p, weight, bond, agreed, anyone):
    if not (p["liquid_alpha"] and anyone):
        return p["bond_rate"]
    gap = weight - agreed if weight >= bond else bond - weight
    gap = min(max(gap, 0.0), 1.0)
    sigmoid = 1 / (1 + math.exp(-p["alpha_steepness"] * (gap - 0.5)))
    return p["alpha_low"] + sigmoid * (p["alpha_high"] - p["alpha_low"])


class Subnet:
    def __init__(self, version, p):
        self.version, self.p = version, p
        self.bonds = self.before = None

    def epoch(self, stake, weights):
        p, rows, columns = self.p, range(len(weights)), range(len(weights[0]))
        s = shares(stake)
        w = [shares(row) for row in weights]
        c = [consensus(s, [w[i][j] for i in rows], p["kappa"]) for j in columns]
        used = self.before if self.version == 2 and self.before else w
        clipped = [[min(used[i][j], c[j]) for j in columns] for i in rows]
        incentive = shares([sum(s[i] * clipped[i][j] for i in rows) for j in columns])
        b = p["bond_penalty"]
        buys = [[(1 - b) * used[i][j] + b * clipped[i][j] for j in columns] for i in rows]
        old, anyone = self.bonds, any(c)
        if self.version == 3:
            old = old or [[0.0] * len(c) for _ in rows]
            r = [[rate(p, buys[i][j], old[i][j], c[j], anyone) for j in columns] for i in rows]
            new = [[min(1.0, r[i][j] * buys[i][j] + (1 - r[i][j]) * old[i][j]) for j in columns] for i in rows]
            held = columns_as_shares(new)
            paid = [s[i] * sum(held[i][j] * incentive[j] for j in columns) for i in rows]
        else:
            bought = columns_as_shares([[s[i] * buys[i][j] for j in columns] for i in rows])
            if self.version == 1:
                old = old or [[0.0] * len(c) for _ in rows]
                a = p["bond_rate"]
                new = [[a * bought[i][j] + (1 - a) * old[i][j] for j in columns] for i in rows]
                new = columns_as_shares(new)
            elif old is None:
                new = bought
            else:
                r = [[rate(p, w[i][j], old[i][j], c[j], anyone) for j in columns] for i in rows]
                new = [[r[i][j] * bought[i][j] + (1 - r[i][j]) * old[i][j] for j in columns] for i in rows]
            paid = [sum(new[i][j] * incentive[j] for j in columns) for i in rows]
        self.bonds, self.before = new, w
        trust = [sum(row) for row in clipped]
        return {"consensus": c, "incentive": incentive, "validator_trust": trust, "dividends": shares(paid), "bonds": new}


def case(seed):
    rng = Rng(seed)
    validators, miners, epochs = 2 + rng.below(7), 1 + rng.below(8), 2 + rng.below(4)
    # Primes as stakes and a kappa in odd thousandths: no sum of shares meets the majority exactly.
    primes = [2, 3, 5, 7, 11, 13, 17, 19, 23, 29]
    low, high = 1 + rng.below(40), 60 + rng.below(40)
    p = {
        "kappa": (401 + 2 * rng.below(200)) / 1009,
        "bond_penalty": [0.0, 1.0, 0.35][rng.below(3)],
        "liquid_alpha": rng.below(3) > 0,
        "alpha_low": low / 100,
        "alpha_high": high / 100,
        "alpha_steepness": float(1 + rng.below(20)),
        "bond_rate": (1 + rng.below(50)) / 100,
    }
    stake = [primes[rng.below(10)] if rng.below(8) else 0 for _ in range(validators)]
    if not any(stake):
        stake[0] = 1

    def weight():
        return 0 if rng.below(4) == 0 else 1 + rng.below(1000)

    def row():
        return [0] * miners if rng.below(12) == 0 else [weight() for _ in range(miners)]

    weights = [[row() for _ in range(validators)] for _ in range(epochs)]
    results = {}
    for version in (1, 2, 3):
        subnet = Subnet(version, p)
        results[str(version)] = [subnet.epoch(stake, epoch) for epoch in weights]
    return {"params": p, "stake": stake, "weights_per_epoch": weights, "versions": results}


def main():
    text = json.dumps([case(seed) for seed in range(1, 17)], separators=(",", ":")) + "\n"
    if "--check" in sys.argv[1:]:
        with open(TARGET) as file:
            # The last bit of exp may differ between C libraries.
            same = close(json.loads(text), json.load(file))
        sys.exit(0 if same else "dn-sim/tests/vectors/yuma.json is not what this script computes")
    os.makedirs(os.path.dirname(TARGET), exist_ok=True)
    with open(TARGET, "w") as file:
        file.write(text)


def close(left, right):
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(close(left[key], right[key]) for key in left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(close, left, right))
    if isinstance(left, float) and isinstance(right, float):
        return abs(left - right) <= 1e-14
    return left == right


if __name__ == "__main__":
    main()
