# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Cohorts: the same host gets the same answer, waves cover the fleet, and no limit is ever exceeded."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import pytest
from ansible.errors import AnsibleFilterError
from hypothesis import given
from hypothesis import strategies as st
from links import PYTHON_PATH

from ansible_collections.edgeml.fleet.plugins.filter import canary_select, cohort_hosts
from ansible_collections.edgeml.fleet.plugins.module_utils._common.errors import ArgumentError
from ansible_collections.edgeml.fleet.plugins.module_utils._release.cohort import position
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.waves import (
    Amount,
    Host,
    LeftOut,
    Plan,
    plan,
    read_hosts,
)

# Any character, also none, NUL, and halves of surrogate pairs, as undecodable bytes become them.
HOSTILE = st.text(st.characters(exclude_categories=()), max_size=8)
HOSTS = st.text(alphabet="abcdefghij0123456789-.é", min_size=1, max_size=12) | HOSTILE
SALTS = st.text(max_size=8) | HOSTILE
STRATA = st.sampled_from(["small", "large", "site-a / large", ""])
MEMBERS = st.builds(Host, STRATA, st.none())
FLEETS = st.dictionaries(HOSTS, MEMBERS, max_size=40)
PARTIAL_FLEETS = st.dictionaries(
    HOSTS, st.builds(Host, STRATA, st.none() | st.sampled_from(["pinned: yes"])), max_size=40
)
SHARES = st.decimals(min_value="0.001", max_value="99.999", places=3)
COUNTS = st.integers(min_value=1, max_value=50)
LIMITS = st.none() | COUNTS | SHARES.map(lambda share: f"{share}%")


@st.composite
def targets(draw: st.DrawFn) -> list[Amount]:
    """Groups, rising counts and rising percentages in any order, with 100% at the end."""
    shares = [f"{share}%" for share in sorted(draw(st.sets(SHARES, max_size=3)))]
    counts = sorted(draw(st.sets(COUNTS, max_size=3)))
    groups = draw(st.lists(st.sampled_from(["canary", "lab", "nobody"]), max_size=2))
    kinds = draw(st.permutations(["share"] * len(shares) + ["count"] * len(counts) + ["group"] * len(groups)))
    found: dict[str, list[Amount]] = {"share": [*shares], "count": [*counts], "group": [*groups]}
    return [*(found[kind].pop(0) for kind in kinds), "100%"]


TARGETS = targets()


@st.composite
def fleets_with_groups(draw: st.DrawFn) -> tuple[dict[str, Host], dict[str, list[str]]]:
    hosts = draw(PARTIAL_FLEETS)
    names = st.lists(st.sampled_from([*hosts, "stranger"]), max_size=8)
    return hosts, draw(st.fixed_dictionaries({"canary": names}, optional={"lab": names}))


GROUPED = fleets_with_groups()
# A fleet with its groups, its waves, a salt, and a limit of devices that are busy at once.
Planned = tuple[tuple[dict[str, Host], dict[str, list[str]]], list[Amount], str, Amount | None]
PLANNED: st.SearchStrategy[Planned] = st.tuples(GROUPED, TARGETS, SALTS, LIMITS)


def fleet(size: int) -> dict[str, Host]:
    return {f"edge-{number:06}": Host("small" if number % 4 else "large") for number in range(size)}


def waves(found: Plan) -> list[tuple[str, list[str]]]:
    return [(wave.name, wave.hosts) for wave in found.waves]


def cohort(hosts: Mapping[str, Host], target: Amount, salt: str, *before: Amount) -> set[str]:
    """The hosts that have their turn until a target is reached."""
    wanted: list[Amount] = [*before, target] if target == "100%" else [*before, target, "100%"]
    names = {str(name) for name in [*before, target]}
    return {host for wave in plan(hosts, wanted, salt).waves if wave.name in names for host in wave.hosts}


def cohorts(found: Plan, wanted: Sequence[Amount]) -> list[set[str]]:
    """For each target the hosts that have their turn until it is reached, whatever parts its wave was split into."""
    done: set[str] = set()
    result = []
    rest = list(found.waves)
    for target in wanted:
        while rest and rest[0].name.split(" (")[0] == str(target):
            done |= set(rest.pop(0).hosts)
        result.append(set(done))
    return result


def leaders(hosts: Mapping[str, Host], salt: str) -> set[str]:
    first: dict[str, str] = {}
    for name in sorted(hosts, key=lambda name: (position(salt, name), name)):
        if hosts[name].left_out is None:
            first.setdefault(hosts[name].device_class, name)
    return set(first.values())


# ---- position ----


def test_a_position_is_fixed_for_ever() -> None:
    # Controllers of different versions, and the devices themselves, must agree.
    assert position("digits", "edge-s1") == 0.44277715549814044
    assert position("digits", "edge-s2") == 0.5600881382631691


@given(SALTS, HOSTS)
def test_a_position_is_a_share_and_survives_json(salt: str, host: str) -> None:
    place = position(salt, host)
    assert 0 <= place < 1
    assert json.loads(json.dumps(place)) == place
    assert place < place + 2.0**-53


# ---- the same answer ----


def test_another_process_gives_the_same_answer() -> None:
    arguments = [{name: host.device_class for name, host in fleet(50).items()}, ["canary", 7, "30%", "100%"], "salt"]
    code = (
        "import json, sys;"
        "from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.waves import plan, read_hosts;"
        "hosts, targets, salt = json.loads(sys.argv[1]);"
        "print(json.dumps(plan(read_hosts(hosts), targets, salt, {'canary': set(list(hosts)[:5])}, '20%').document()))"
    )
    answers = {
        subprocess.run(
            [sys.executable, "-c", code, json.dumps(arguments)],
            env={"PYTHONPATH": str(PYTHON_PATH), "PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
            text=True,
        ).stdout.strip()
        for seed in ("1", "2", "3")
    }
    names = list(fleet(50))[:5]
    expected = plan(fleet(50), ["canary", 7, "30%", "100%"], "salt", {"canary": names}, "20%").document()
    assert answers == {json.dumps(expected)}


@given(PLANNED, st.randoms(use_true_random=False))
def test_the_order_of_hosts_and_members_does_not_matter(planned: Planned, order: random.Random) -> None:
    (hosts, groups), wanted, salt, limit = planned
    names = list(hosts)
    order.shuffle(names)
    shuffled = {group: order.sample(members, len(members)) for group, members in groups.items()}
    assert plan({name: hosts[name] for name in names}, wanted, salt, shuffled, limit) == plan(
        hosts, wanted, salt, groups, limit
    )


@given(GROUPED, TARGETS, SALTS, LIMITS)
def test_each_host_has_one_wave_or_a_reason(
    grouped: tuple[dict[str, Host], dict[str, list[str]]], wanted: list[Amount], salt: str, limit: Amount | None
) -> None:
    hosts, groups = grouped
    found = plan(hosts, wanted, salt, groups, limit)
    assert all(wave.hosts for wave in found.waves)
    chosen = [name for wave in found.waves for name in wave.hosts]
    assert sorted([*chosen, *found.left_out]) == sorted(hosts)
    assert found.left_out == {name: host.left_out for name, host in hosts.items() if host.left_out}
    for wave in found.waves:
        assert wave.hosts == sorted(wave.hosts, key=lambda name: (position(salt, name), name))
    assert len({wave.name for wave in found.waves}) == len(found.waves)


# ---- percentages, counts, groups ----


@given(FLEETS, SHARES, SALTS)
def test_a_percentage_is_who_is_below_it_and_the_representatives(hosts: dict[str, Host], share: Any, salt: str) -> None:
    below = {name for name in hosts if position(salt, name) < float(share / 100)}
    assert cohort(hosts, f"{share}%", salt) == below | leaders(hosts, salt)


@given(FLEETS, COUNTS, SALTS)
def test_a_count_is_exact_unless_there_are_more_strata_or_fewer_hosts(
    hosts: dict[str, Host], count: int, salt: str
) -> None:
    device_classes = {host.device_class for host in hosts.values()}
    found = cohort(hosts, count, salt)
    assert len(found) == min(len(hosts), max(count, len(device_classes)))
    # Apart from the representatives they are the first ones.
    others = sorted(set(hosts) - leaders(hosts, salt), key=lambda name: (position(salt, name), name))
    assert [name for name in others if name in found] == others[: max(0, count - len(device_classes))]


@given(GROUPED, TARGETS, SALTS)
def test_a_group_adds_its_members_and_nobody_else(
    grouped: tuple[dict[str, Host], dict[str, list[str]]], wanted: list[Amount], salt: str
) -> None:
    hosts, groups = grouped
    before: set[str] = set()
    for target, after in zip(wanted, cohorts(plan(hosts, wanted, salt, groups), wanted), strict=True):
        if target in ("canary", "lab", "nobody"):
            members = {name for name in groups.get(str(target), ()) if name in hosts and not hosts[name].left_out}
            assert after == before | members
        before = after


def test_a_count_includes_the_members_of_the_groups_before_it() -> None:
    found = plan(fleet(100), ["canary", 5, "100%"], "salt", {"canary": ["edge-000001", "edge-000002"]})
    assert [len(wave.hosts) for wave in found.waves] == [2, 3, 95]


@given(FLEETS, SHARES, SHARES, COUNTS, COUNTS, SALTS)
def test_a_larger_target_contains_the_smaller(
    hosts: dict[str, Host], one: Any, other: Any, few: int, more: int, salt: str
) -> None:
    low, high = sorted((one, other))
    assert cohort(hosts, f"{low}%", salt) <= cohort(hosts, f"{high}%", salt)
    assert cohort(hosts, min(few, more), salt) <= cohort(hosts, max(few, more), salt)


@given(GROUPED, TARGETS, SALTS, LIMITS)
def test_cohorts_are_nested_and_a_budget_does_not_change_them(
    grouped: tuple[dict[str, Host], dict[str, list[str]]], wanted: list[Amount], salt: str, limit: Amount | None
) -> None:
    hosts, groups = grouped
    unlimited = cohorts(plan(hosts, wanted, salt, groups), wanted)
    assert all(one <= other for one, other in pairwise(unlimited))
    if len(set(wanted)) == len(wanted):
        assert cohorts(plan(hosts, wanted, salt, groups, limit), wanted) == unlimited


@given(FLEETS, SHARES, SHARES, COUNTS, SALTS)
def test_a_target_is_the_same_whatever_targets_come_before_it(
    hosts: dict[str, Host], one: Any, other: Any, count: int, salt: str
) -> None:
    low, high = sorted((one, other))
    if low < high:
        assert cohort(hosts, f"{high}%", salt, f"{low}%") == cohort(hosts, f"{high}%", salt)
    assert cohort(hosts, count, salt, f"{low}%") == cohort(hosts, count, salt) | cohort(hosts, f"{low}%", salt)


@given(GROUPED, TARGETS, SALTS)
def test_each_stratum_is_represented_after_each_percentage_and_count(
    grouped: tuple[dict[str, Host], dict[str, list[str]]], wanted: list[Amount], salt: str
) -> None:
    hosts, groups = grouped
    device_classes = {host.device_class for host in hosts.values() if not host.left_out}
    for target, found in zip(wanted, cohorts(plan(hosts, wanted, salt, groups), wanted), strict=True):
        if target not in ("canary", "lab", "nobody"):
            assert {hosts[name].device_class for name in found} == device_classes


# ---- subsets and new hosts ----


@given(FLEETS, FLEETS, SHARES, SALTS)
def test_with_a_percentage_new_hosts_change_at_most_the_representatives(
    hosts: dict[str, Host], more: dict[str, Host], share: Any, salt: str
) -> None:
    grown = {**more, **hosts}
    before, after = cohort(hosts, f"{share}%", salt), cohort(grown, f"{share}%", salt)
    turned_out = before - after
    assert all(position(salt, name) >= float(share / 100) for name in turned_out)
    # Each made way for a new host of its device_class.
    newcomers = {hosts_stratum for name, (hosts_stratum, _) in grown.items() if name in after - set(hosts)}
    assert {hosts[name].device_class for name in turned_out} <= newcomers
    assert len(turned_out) == len({hosts[name].device_class for name in turned_out})
    assert (after & set(hosts)) - before == set()


@given(GROUPED, TARGETS, SALTS, HOSTS, STRATA, st.booleans())
def test_a_new_host_turns_out_at_most_one_and_only_for_itself(
    grouped: tuple[dict[str, Host], dict[str, list[str]]],
    wanted: list[Amount],
    salt: str,
    name: str,
    device_class: str,
    member: bool,
) -> None:
    hosts, groups = grouped
    if name in hosts:
        return
    grown = {**hosts, name: Host(device_class)}
    more = {**groups, "canary": [*groups["canary"], name]} if member else groups
    one, other = plan(hosts, wanted, salt, groups), plan(grown, wanted, salt, more)
    for before, after in zip(cohorts(one, wanted), cohorts(other, wanted), strict=True):
        turned_out = before - after
        assert len(turned_out) <= 1
        assert not turned_out or name in after
        assert after - before <= {name}


@given(PLANNED, st.data())
def test_limited_to_some_hosts_each_has_the_wave_that_it_has_in_the_fleet(
    planned: Planned, data: st.DataObject
) -> None:
    (hosts, groups), wanted, salt, limit = planned
    only = data.draw(st.sets(st.sampled_from([*hosts, "stranger"])))
    found, everyone = plan(hosts, wanted, salt, groups, limit, only=only), plan(hosts, wanted, salt, groups, limit)
    assert waves(found) == restricted(everyone, only)
    assert found.left_out == {name: reason for name, reason in everyone.left_out.items() if name in only}
    assert found.boundaries == everyone.boundaries


def restricted(found: Plan, names: Iterable[str]) -> list[tuple[str, list[str]]]:
    names = set(names)
    kept = [(wave.name, [name for name in wave.hosts if name in names]) for wave in found.waves]
    return [(name, hosts) for name, hosts in kept if hosts]


# ---- slices ----


def slices(hosts: Mapping[str, Host], groups: Mapping[str, list[str]], number: int) -> list[tuple[Any, Any]]:
    """Hosts and groups as each slice of an AWX job sees them: every n-th host by name, groups with these hosts only."""
    found = []
    for index in range(number):
        names = sorted(hosts)[index::number]
        members = {group: [name for name in listed if name in names] for group, listed in groups.items()}
        found.append(({name: hosts[name] for name in names}, {group: some for group, some in members.items() if some}))
    return found


@given(GROUPED, TARGETS, SALTS, LIMITS, st.integers(min_value=1, max_value=9))
def test_the_waves_of_all_slices_together_are_those_of_the_fleet(
    grouped: tuple[dict[str, Host], dict[str, list[str]]],
    wanted: list[Amount],
    salt: str,
    limit: Amount | None,
    number: int,
) -> None:
    hosts, groups = grouped
    everyone = plan(hosts, wanted, salt, groups, limit)
    boundaries = json.loads(json.dumps(everyone.boundaries))
    together: dict[str, list[str]] = {}
    left_out: dict[str, LeftOut] = {}
    for some, members in slices(hosts, groups, number):
        found = plan(some, wanted, salt, members, boundaries=boundaries)
        assert waves(found) == restricted(everyone, some)
        left_out.update(found.left_out)
        for wave in found.waves:
            together.setdefault(wave.name, []).extend(wave.hosts)
    assert {name: sorted(names) for name, names in together.items()} == {
        name: sorted(names) for name, names in waves(everyone)
    }
    assert left_out == everyone.left_out


def test_seven_slices_of_three_hosts_four_of_them_empty() -> None:
    hosts = {"a": Host("small"), "b": Host("small"), "c": Host("large")}
    everyone = plan(hosts, [1, "100%"], "digits")
    found = [
        plan(some, [1, "100%"], "digits", boundaries=everyone.boundaries) for some, _members in slices(hosts, {}, 7)
    ]
    assert [len(part.waves) for part in found] == [1, 1, 1, 0, 0, 0, 0]
    first = {name for part in found for wave in part.waves if wave.name == "1" for name in wave.hosts}
    assert first == set(everyone.waves[0].hosts)
    assert len(first) == 2


@given(GROUPED, FLEETS, TARGETS, SALTS, LIMITS)
def test_hosts_that_came_after_the_plan_move_nobody(
    grouped: tuple[dict[str, Host], dict[str, list[str]]],
    more: dict[str, Host],
    wanted: list[Amount],
    salt: str,
    limit: Amount | None,
) -> None:
    hosts, groups = grouped
    before = plan(hosts, wanted, salt, groups, limit)
    after = plan({**more, **hosts}, wanted, salt, groups, boundaries=before.boundaries)
    assert restricted(after, hosts) == waves(before)
    assert after.boundaries == before.boundaries
    known = {host.device_class for host in hosts.values() if not host.left_out}
    strangers = {name for name, host in more.items() if name not in hosts and host.device_class not in known}
    last = before.boundaries["waves"][-1]["name"]
    assert all(wave.name == last for wave in after.waves if strangers & set(wave.hosts))


def test_a_device_finds_its_wave_by_itself() -> None:
    hosts = fleet(200)
    everyone = plan(hosts, [3, "10%", "50%", "100%"], "digits", max_unavailable="5%")
    for wave in everyone.waves:
        for name in wave.hosts:
            alone = plan({name: hosts[name]}, ["100%"], "digits", boundaries=everyone.boundaries)
            assert waves(alone) == [(wave.name, [name])]


@pytest.mark.parametrize(
    "boundaries",
    [
        {},
        {"salt": "digits"},
        {"salt": "digits", "waves": []},
        {"salt": "digits", "waves": [{"name": "100%"}]},
        {"salt": "digits", "waves": [{"name": "100%", "group": None, "below": {"small": "half"}}]},
        {"salt": "digits", "waves": [{"name": "100%", "group": None, "below": [1]}]},
        {"salt": "digits", "waves": "all"},
    ],
)
def test_cuts_that_are_none_are_refused(boundaries: Any) -> None:
    with pytest.raises(ArgumentError, match="boundaries: expected what an earlier plan returned as boundaries; found"):
        plan(fleet(3), ["100%"], "digits", boundaries=boundaries)


def test_cuts_of_another_salt_are_refused() -> None:
    with pytest.raises(
        ArgumentError, match="boundaries: expected those of a plan with the salt 'faces'; found the salt 'dig"
    ):
        plan(fleet(3), ["100%"], "faces", boundaries=plan(fleet(3), ["100%"], "digits").boundaries)


# ---- budgets ----


@given(GROUPED, TARGETS, SALTS, st.dictionaries(STRATA, COUNTS | SHARES.map(lambda share: f"{share}%")))
def test_no_wave_ever_exceeds_a_budget(
    grouped: tuple[dict[str, Host], dict[str, list[str]]], wanted: list[Amount], salt: str, budgets: dict[str, Amount]
) -> None:
    hosts, groups = grouped
    sizes = Counter(host.device_class for host in hosts.values() if not host.left_out)
    budgets = {device_class: most for device_class, most in budgets.items() if device_class in sizes}
    for wave in plan(hosts, wanted, salt, groups, budgets).waves:
        for device_class, number in Counter(hosts[name].device_class for name in wave.hosts).items():
            if device_class in budgets:
                most = budgets[device_class]
                whole = float(most[:-1]) / 100 * sizes[device_class] if isinstance(most, str) else most
                assert number <= max(1, whole)


@given(GROUPED, TARGETS, SALTS, COUNTS)
def test_one_budget_is_that_of_each_stratum(
    grouped: tuple[dict[str, Host], dict[str, list[str]]], wanted: list[Amount], salt: str, most: int
) -> None:
    hosts, groups = grouped
    each = {host.device_class: most for host in hosts.values() if not host.left_out}
    assert plan(hosts, wanted, salt, groups, most) == plan(hosts, wanted, salt, groups, each)


def test_a_wave_that_is_too_large_is_split() -> None:
    hosts = {f"s{number}": Host("small") for number in range(5)} | {"l1": Host("large")}
    found = plan(hosts, ["100%"], "salt", max_unavailable={"small": 2})
    assert [wave.name for wave in found.waves] == ["100% (1 of 3)", "100% (2 of 3)", "100% (3 of 3)"]
    assert [Counter(hosts[name].device_class for name in wave.hosts) for wave in found.waves] == [
        {"small": 2, "large": 1},
        {"small": 2},
        {"small": 1},
    ]


@pytest.mark.parametrize(
    ("most", "size", "largest"), [("29%", 100, 29), ("33.3%", 10, 3), ("1%", 10, 1), ("100%", 7, 7)]
)
def test_a_percentage_of_a_stratum_is_rounded_down(most: str, size: int, largest: int) -> None:
    hosts = {f"edge-{number}": Host("small") for number in range(size)}
    assert max(len(wave.hosts) for wave in plan(hosts, ["100%"], "", max_unavailable=most).waves) == largest


@pytest.mark.parametrize("most", [0, -1, "0%", "101%", "many", 1.5, True, [1], "", {"small": 0}, {"small": None}])
def test_a_budget_is_a_count_or_a_percentage(most: Any) -> None:
    with pytest.raises(
        ArgumentError, match=r"max_unavailable: (small: )?expected a count from 1, or a percentage above"
    ):
        plan({"a": Host("small")}, ["100%"], "", max_unavailable=most)


def test_a_budget_of_a_stratum_that_nobody_belongs_to_is_a_mistake() -> None:
    with pytest.raises(ArgumentError, match="no device belongs to 'smal'; the device classes are 'large', 'small'"):
        plan(fleet(8), ["100%"], "", max_unavailable={"smal": 1})
    assert plan({}, ["100%"], "", max_unavailable={"small": 1}).waves == []


# ---- controls ----


@given(PLANNED, st.data())
def test_controls_are_of_later_waves_and_the_same_stratum(planned: Planned, data: st.DataObject) -> None:
    (hosts, groups), wanted, salt, limit = planned
    only = data.draw(st.none() | st.sets(st.sampled_from([*hosts, "stranger"])))
    found = plan(hosts, wanted, salt, groups, limit, only=only)
    assert len(found.controls) == len(found.waves)
    for number, (wave, pairs) in enumerate(zip(found.waves, found.controls, strict=True)):
        later = {name for following in found.waves[number + 1 :] for name in following.hosts}
        assert set(pairs) <= set(wave.hosts)
        assert set(pairs.values()) <= later
        assert len(set(pairs.values())) == len(pairs)
        assert all(hosts[name].device_class == hosts[control].device_class for name, control in pairs.items())
        # As many as there can be.
        needed, there = (Counter(hosts[name].device_class for name in names) for names in (wave.hosts, later))
        assert Counter(hosts[name].device_class for name in pairs) == needed & there


# ---- salts ----


@pytest.mark.parametrize("target", ["10%", 100])
def test_another_salt_spares_those_who_were_first(target: Amount) -> None:
    hosts = fleet(1000)
    first = cohort(hosts, target, "digits-1.1.0")
    again = first & cohort(hosts, target, "digits-1.2.0")
    # Of 100 hosts 10 are expected to be first again; five standard deviations (of 3) are 15.
    assert len(again) < 25
    assert cohort(hosts, target, "digits-1.1.0") == first


# ---- large fleets ----


def test_a_fleet_of_100_000_is_planned() -> None:
    hosts = fleet(100_000)
    result = plan(hosts, ["1%", "10%", "50%", "100%"], "digits").waves
    assert sum(len(wave.hosts) for wave in result) == 100_000
    for wave, expected in zip(result, (0.01, 0.09, 0.40, 0.50), strict=True):
        assert len(wave.hosts) == pytest.approx(expected * 100_000, rel=0.05)
        large = sum(hosts[name].device_class == "large" for name in wave.hosts)
        assert large == pytest.approx(len(wave.hosts) / 4, rel=0.15)


# ---- mistakes ----


@pytest.mark.parametrize("wanted", [[], [100], ["canary"], ["50%"], ["100%", "canary"], ["10%", "100%", 5]])
def test_the_last_target_is_all(wanted: Any) -> None:
    with pytest.raises(ArgumentError, match='waves: expected "100%" as the last one'):
        plan(fleet(3), wanted, "")


@pytest.mark.parametrize("wanted", [["50%", "10%", "100%"], ["10%", "10.0%", "100%"], [5, 5, "100%"], [5, "4", "100%"]])
def test_targets_rise(wanted: Any) -> None:
    with pytest.raises(ArgumentError, match="waves: expected percentages that rise, and counts that rise; found"):
        plan(fleet(3), wanted, "")


@pytest.mark.parametrize(
    "target", [0, -1, "0", "-3", "0%", "-5%", "100.1%", "ten%", "%", "1e1%", "nan%", "٣%", 2.5, True, None, "", [5]]
)
def test_a_target_is_a_count_a_percentage_or_a_group(target: Any) -> None:
    with pytest.raises(ArgumentError, match="waves: expected a count from 1, a percentage above"):
        plan(fleet(3), [target, "100%"], "")


@pytest.mark.parametrize("wanted", ["100%", {"100%": 1}, None, 5])
def test_targets_are_a_list(wanted: Any) -> None:
    with pytest.raises(ArgumentError, match="waves: expected a list; found"):
        plan(fleet(3), wanted, "")


def test_a_number_in_a_text_is_a_count_as_in_serial() -> None:
    assert plan(fleet(9), ["5", "100%"], "") == plan(fleet(9), [5, "100%"], "")


def test_the_members_of_a_group_are_a_list() -> None:
    with pytest.raises(ArgumentError, match="groups: canary: expected a list of hosts; found 'edge-000001'"):
        plan(fleet(3), ["canary", "100%"], "", {"canary": "edge-000001"})


# ---- what the module and the filter are given ----


@pytest.mark.parametrize(
    ("given_host", "left_out"),
    [
        ("small", None),
        ({"device_class": "small"}, None),
        ({"device_class": "small", "pinned": True}, "pinned: yes"),
        ({"device_class": "small", "pinned": "customer's demo"}, "pinned: customer's demo"),
        ({"device_class": "small", "pinned": False, "maintenance": "new battery"}, "maintenance: new battery"),
        ({"device_class": "small", "pinned": "a", "maintenance": "b"}, "pinned: a"),
        *(
            ({"device_class": "small", "pinned": word}, None)
            for word in (False, None, "", " ", 0, "false", "No", "off", "0")
        ),
    ],
)
def test_a_host_takes_part_unless_it_has_a_reason(given_host: Any, left_out: str | None) -> None:
    (found,) = read_hosts({"a": given_host}).values()
    assert (found.device_class, found.left_out and str(found.left_out)) == ("small", left_out)


@pytest.mark.parametrize(
    ("given_host", "message"),
    [
        (None, "expected a device class, or a mapping with one; found None"),
        ({}, "expected a device class, or a mapping with one; found {}"),
        ({"device_class": 5}, "expected a device class, or a mapping with one; found"),
        (
            {"device_class": "small", "pined": "yes"},
            "expected device_class, decommissioned, pinned, maintenance; found pined",
        ),
    ],
)
def test_a_host_that_is_none_is_refused(given_host: Any, message: str) -> None:
    with pytest.raises(ArgumentError, match=f"hosts: a: {message}"):
        read_hosts({"a": given_host})


def test_the_filter_is_the_function() -> None:
    hosts = {"a": "small", "b": "large", "c": {"device_class": "small", "pinned": "demo"}}
    found = canary_select.canary_select(hosts, ["canary", "100%"], "digits", {"canary": ["a"]}, max_unavailable=1)
    assert found == plan(read_hosts(hosts), ["canary", "100%"], "digits", {"canary": ["a"]}, 1).document()
    assert found["left_out"] == {"c": "pinned: demo"}
    assert canary_select.canary_select(hosts, salt="digits")["waves"]


@pytest.mark.parametrize("arguments", [{"waves": [5], "salt": ""}, {"salt": None}, {"salt": 5}])
def test_the_filter_says_what_is_wrong(arguments: Any) -> None:
    with pytest.raises(AnsibleFilterError, match=r"canary_select: .*expected"):
        canary_select.canary_select({"a": "small"}, **arguments)


def test_hosts_are_made_of_variables() -> None:
    devices: list[dict[str, Any]] = [
        {"inventory_hostname": "a", "device_class": "small", "site": "x", "rollout_pinned": "demo"},
        {"inventory_hostname": "b", "device_class": "small", "rollout_maintenance": True, "rollout_pinned": ""},
    ]
    assert cohort_hosts.cohort_hosts(devices, ["site", "device_class"]) == {
        "a": {"device_class": "x / small", "pinned": "demo"},
        "b": {"device_class": "no site / small", "maintenance": True},
    }
    assert {host["device_class"] for host in cohort_hosts.cohort_hosts(devices, []).values()} == {"all"}
    with pytest.raises(AnsibleFilterError, match="device_class: expected a list of names of variables; found 'site'"):
        cohort_hosts.cohort_hosts(devices, "site")
