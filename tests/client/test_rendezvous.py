"""Rendezvous hashing: known answers, equal shares, and only the volumes of who leaves move."""

from __future__ import annotations

from collections import Counter

from augclient.wire.rendezvous import Router, order, weight

FLEET = ("10.0.0.1:50051", "10.0.0.2:50051", "10.0.0.3:50051")
VOLUMES = [f"case_{k}" for k in range(3000)]


def test_weights_are_those_of_b2sum():
    # printf '10.0.0.1:50051\0case_1' | b2sum -l 64
    assert f"{weight('10.0.0.1:50051', 'case_1'):016x}" == "ff46eb5746b71d56"
    assert f"{weight('é:1', 'ß'):016x}" == "b27cc4947c750437"


def test_members_share_the_volumes_equally_and_wholly():
    routers = {member: Router(FLEET, member) for member in FLEET}
    owners = [[member for member in FLEET if routers[member].takes(volume)] for volume in VOLUMES]
    assert all(len(each) == 1 for each in owners)
    counts = Counter(each[0] for each in owners)
    assert all(900 < counts[member] < 1100 for member in FLEET)  # 1000 +- 4 sigma


def test_order_of_the_list_does_not_matter():
    assert all(order(FLEET, volume) == order(reversed(FLEET), volume) for volume in VOLUMES[:100])


def test_only_the_volumes_of_a_member_that_leaves_move():
    gone, *rest = FLEET
    for volume in VOLUMES:
        before, after = order(FLEET, volume), order(rest, volume)
        assert after == [member for member in before if member != gone]


def test_stand_ins_share_exactly_what_the_others_do_not_send():
    late = FLEET[1]
    rest = [member for member in FLEET if member != late]
    stand_ins = {member: Router(FLEET, member, [late]) for member in rest}
    for volume in VOLUMES:
        ranked = order(FLEET, volume)
        takers = [member for member in rest if stand_ins[member].takes(volume)]
        assert takers == ([ranked[1]] if ranked[0] == late else [])
