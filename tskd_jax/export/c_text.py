"""The text of the C header: its template, and C syntax for numbers, arrays and comments."""

import re
from collections.abc import Callable
from string import Template

import numpy as np

from tskd_jax.policy import Bounds, Policy

PREFIX = "tskd_policy_"
LINE = 96

HEADER = Template("""\
/*
 * A policy: $what; weights of $numbers.
 *
 * Include this file in one source file, of C99 or C++. It needs tanhf of <math.h> (link with -lm),
 * allocates nothing, and may be called by several threads.
 *
 *   int tskd_policy_act(const float *observation, float *action);
 *       0, and the action is written, raw units; or not 0, and it is left as it was:
 *       1: an observation is not finite, 2: the action would not be.
 *   int tskd_policy_self_test(void);
 *       0, or the number of the first test that fails: call it once on a new machine.
 *
 * What stands in the contract (JSON, in which \\u002a is an asterisk):
 *
$contract
 */
#if defined(TSKD_POLICY_H) && !defined(TSKD_POLICY_H_$mark)
#error "another policy is included already; include each policy in a source file of its own"
#elif !defined(TSKD_POLICY_H)
#define TSKD_POLICY_H
#define TSKD_POLICY_H_$mark

#include <math.h>
#include <stdint.h>
#include <string.h>

/* Buffers of WIDEST numbers are on the stack, $stack bytes. */
$defines

$arrays

/* By its bits, which -ffast-math does not assume anything about. */
static inline int tskd_policy_is_finite(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return (bits & 0x7f800000u) != 0x7f800000u;
}

/* Outputs lie side by side, so that a compiler may compute several at once; zeros behind a ReLU,
   about half, cost nothing. */
static inline void tskd_policy_layer(const $weight *weight,$scales const float *bias,
                                     int size, int count, const float *x, float *y)
{
    int i, j;
    for (j = 0; j < count; ++j) {
        y[j] = 0.0f;
    }
    for (i = 0; i < size; ++i, weight += count) {
        const float value = $value;
        if (value != 0.0f) {
            for (j = 0; j < count; ++j) {
                y[j] += (float)weight[j] * value;
            }
        }
    }
    for (j = 0; j < count; ++j) {
        y[j] = $sum + bias[j];
    }
}

/* What is not a number stays so, and is found at the end. */
static inline void tskd_policy_relu(int count, float *x)
{
    int i;
    for (i = 0; i < count; ++i) {
        x[i] = x[i] < 0.0f ? 0.0f : x[i];
    }
}

static inline int tskd_policy_act(const float *observation, float *action)
{
    float $buffers;
    int i;
    for (i = 0; i < TSKD_POLICY_OBSERVATIONS; ++i) {
        if (!tskd_policy_is_finite(observation[i])) {
            return 1;
        }
    }
$layers
    for (i = 0; i < TSKD_POLICY_ACTIONS; ++i) {
        $result[i] = tskd_policy_center[i] + tskd_policy_half_width[i] * tanhf($result[i]);
        if (!tskd_policy_is_finite($result[i])) {
            return 2;
        }
        /* The last rounding may lead past a bound. */
        if ($result[i] < tskd_policy_low[i]) {
            $result[i] = tskd_policy_low[i];
        } else if ($result[i] > tskd_policy_high[i]) {
            $result[i] = tskd_policy_high[i];
        }
    }
    memcpy(action, $result, TSKD_POLICY_ACTIONS * sizeof *action);
    return 0;
}

/* What the NumPy policy does. */
$vectors

static inline int tskd_policy_self_test(void)
{
    float observation[TSKD_POLICY_OBSERVATIONS], action[TSKD_POLICY_ACTIONS];
    const uint32_t not_a_number = 0x7fc00000u;
    int test, i;
    for (test = 0; test < $count; ++test) {
        const float *expected = tskd_policy_test_action + test * TSKD_POLICY_ACTIONS;
        memcpy(observation, tskd_policy_test_observation + test * TSKD_POLICY_OBSERVATIONS,
               sizeof observation);
        if (tskd_policy_act(observation, action)) {
            return test + 1;
        }
        for (i = 0; i < TSKD_POLICY_ACTIONS; ++i) {
            const float off = action[i] - expected[i];
            const float most = 1e-4f * tskd_policy_half_width[i]
                               + 1e-6f * (expected[i] < 0.0f ? -expected[i] : expected[i]);
            if (!(off <= most && -off <= most)) {
                return test + 1;
            }
        }
    }
    /* The last one again, with a number missing. */
    memcpy(&observation[TSKD_POLICY_OBSERVATIONS - 1], &not_a_number, sizeof not_a_number);
    for (i = 0; i < TSKD_POLICY_ACTIONS; ++i) {
        action[i] = 123.0f;
    }
    if (tskd_policy_act(observation, action) != 1) {
        return $count + 1;
    }
    for (i = 0; i < TSKD_POLICY_ACTIONS; ++i) {
        if (action[i] < 123.0f || action[i] > 123.0f) {
            return $count + 1;
        }
    }
    return 0;
}

#endif
""")

LIBRARY = """\
#include "policy.h"

int observations(void) { return TSKD_POLICY_OBSERVATIONS; }
int actions(void) { return TSKD_POLICY_ACTIONS; }
int self_test(void) { return tskd_policy_self_test(); }

int act(const float *observation, float *action, long count)
{
    long i;
    for (i = 0; i < count; ++i) {
        if (tskd_policy_act(observation + i * TSKD_POLICY_OBSERVATIONS,
                            action + i * TSKD_POLICY_ACTIONS)) {
            return (int)i + 1;
        }
    }
    return 0;
}
"""


def number(value: float) -> str:
    """A C literal that is read as exactly this single-precision number."""
    text = f"{np.float32(value):.9g}"
    return f"{text}f" if set(text) & set(".e") else f"{text}.0f"


def define(name: str, value: int | str) -> str:
    """A macro definition."""
    return f"#define {PREFIX.upper()}{name} {value}"


def array(name: str, values: np.ndarray) -> str:
    """A constant array, in C order."""
    kind = "int8_t" if values.dtype == np.int8 else "float"
    words = [str(one) if kind == "int8_t" else number(one) for one in values.reshape(-1)]
    lines, line = [], ""
    for word in words:
        if len(line) + len(word) > LINE:
            lines.append(line)
            line = ""
        line += f" {word},"
    body = "\n".join([*lines, line.removesuffix(",")])
    return f"static const {kind} {PREFIX}{name}[{values.size}] = {{\n{body}\n}};"


def comment(text: str) -> str:
    """Format JSON as lines of a C comment, such that its content cannot end the comment."""
    # Only an asterisk can end a comment or begin a nested one; JSON can escape it.
    return "\n".join(f" * {line}".rstrip() for line in text.replace("*", "\\u002a").splitlines())


def read_back(text: str) -> Callable[[np.ndarray], np.ndarray]:
    """Read the weights and bounds in a header back into a NumPy policy."""
    found = {
        name: np.array(body.replace("f", "").split(","), np.float32)
        for name, body in re.findall(rf"{PREFIX}(\w+)\[\d+\] = {{(.*?)}};", text, re.DOTALL)
    }
    weights, biases, size = [], [], int(re.findall(r"OBSERVATIONS (\d+)\n", text)[0])
    for place in range(sum(name.startswith("bias_") for name in found)):
        bias = found[f"bias_{place}"]
        weight = found[f"weight_{place}"].reshape(size, len(bias))
        if f"in_{place}" in found:
            weight = weight * found[f"out_{place}"] * found[f"in_{place}"][:, None]
        weights.append(weight)
        biases.append(bias)
        size = len(bias)
    bounds = Bounds(tuple(found["low"].tolist()), tuple(found["high"].tolist()))
    return Policy(tuple(weights), tuple(biases), bounds)
