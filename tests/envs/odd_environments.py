"""Environments that behave badly; importing this module registers them, in any process."""

import multiprocessing
import os
import pathlib
import time

import gymnasium
import numpy as np


class Odd(gymnasium.Env):
    """Four steps, each with the reward 1."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (2,), np.float64)

    def __init__(self):
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float64)
        self.seen = np.zeros(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.time, self.seed_given = 0, seed
        return self.seen, {}

    def step(self, action):
        self.time += 1
        self.seen[:] = self.time, action[0]  # the same array each time
        return self.seen, 1.0, self.time == 4, False, {}


class Careless(Odd):
    """Draws from NumPy's global generator, in its steps too."""

    def step(self, action):
        observation, _, terminated, truncated, info = super().step(action)
        return observation, np.random.normal(), terminated, truncated, info  # noqa: NPY002


class Failing(Odd):
    """Fails in its third step where its seed ends in 3."""

    def step(self, action):
        if self.time == 2 and self.seed_given % 10 == 3:
            raise ZeroDivisionError("no\nfriction")
        return super().step(action)


class Deadly(Odd):
    """Ends its process, unless it is the first."""

    def step(self, action):
        if multiprocessing.parent_process() is not None:
            os._exit(9)
        return super().step(action)


class Endless(Odd):
    """Never ends."""

    def step(self, action):
        return (*super().step(action)[:2], False, False, {})


class Exploding(Odd):
    """Ends after as many steps as its seed, at infinity."""

    def step(self, action):
        observation, *rest = super().step(action)
        if self.time == self.seed_given:
            return np.array([np.inf, -np.inf]), 1.0, True, False, {}
        return observation, *rest


class Arrays(Odd):
    """Gives its rewards as arrays of one number, and at last of two."""

    def step(self, action):
        observation, reward, *rest = super().step(action)
        count = 2 if self.time == self.seed_given else 1
        return observation, np.full(count, reward), *rest


class Integers(Odd):
    """Gives integers at first, and real numbers later."""

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.array([0, 0]), {}


class Tuples(Odd):
    """Gives its observations as tuples."""

    def reset(self, *, seed=None, options=None):
        return tuple(super().reset(seed=seed)[0]), {}

    def step(self, action):
        observation, *rest = super().step(action)
        return tuple(observation), *rest


class Strict(Odd):
    """Insists on actions of its action space: of single precision, and bounded by ±0.1."""

    def __init__(self):
        super().__init__()
        self.action_space = gymnasium.spaces.Box(-0.1, 0.1, (1,), np.float32)

    def step(self, action):
        assert self.action_space.contains(action), f"{action!r} is not in the action space"
        return super().step(action)


class Strict64(Strict):
    """The same in double precision, in which the single precision's 0.1 is more than 0.1."""

    def __init__(self):
        super().__init__()
        self.action_space = gymnasium.spaces.Box(-0.1, 0.1, (1,), np.float64)


class StrictIntegers(Strict):
    """The same with integers between -3 and 3."""

    def __init__(self):
        super().__init__()
        self.action_space = gymnasium.spaces.Box(-3, 3, (1,), np.int64)


class Worthless(Odd):
    """Gives the reward NaN, or one beyond single precision, in as many steps as its seed."""

    worst = np.nan

    def step(self, action):
        observation, reward, *rest = super().step(action)
        return observation, self.worst if self.time == self.seed_given else reward, *rest


class Priceless(Worthless):
    """A reward beyond single precision."""

    worst = 1e39


class Reshaped(Odd):
    """Gives its third observation as a column."""

    def step(self, action):
        observation, *rest = super().step(action)
        return observation[:, None] if self.time == 3 else observation, *rest


class Old(Odd):
    """Written for the old Gym: its reset returns the observation alone."""

    def reset(self, *, seed=None, options=None):
        return super().reset(seed=seed)[0]


class Diverging(Odd):
    """Gives NaN, infinities, and numbers of which a policy's layers overflow."""

    def step(self, action):
        _, *rest = super().step(action)
        first = (np.nan, np.inf, -1e300, 1e30)[self.time - 1]
        return np.array([first, 2e6]), *rest


class Slow(Endless):
    """Never ends, and says by a file that it has begun."""

    def step(self, action):
        time.sleep(0.001)
        if self.time == 20:
            pathlib.Path(os.environ["STARTED"]).touch()
        return super().step(action)


class Dict(Odd):
    """Gives its two numbers apart, and one more."""

    observation_space = gymnasium.spaces.Dict(
        {
            "two": gymnasium.spaces.Box(-np.inf, np.inf, (2,), np.float64),
            "one": gymnasium.spaces.Box(-np.inf, np.inf, (1,), np.float64),
        }
    )

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return {"two": self.seen, "one": np.ones(1)}, {}

    def step(self, action):
        observation, *rest = super().step(action)
        return {"two": observation, "one": np.ones(1)}, *rest


for _kind in (
    *(Odd, Careless, Failing, Deadly, Endless, Exploding, Arrays, Slow, Integers, Tuples, Strict),
    *(Strict64, StrictIntegers, Worthless, Priceless, Reshaped, Old, Diverging),
):
    gymnasium.register(f"odd/{_kind.__name__}-v0", _kind)
gymnasium.register("odd/Dict-v0", Dict, max_episode_steps=9)
