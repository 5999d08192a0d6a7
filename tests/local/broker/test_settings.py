"""Settings of a node: single, or one of several on this machine."""

from __future__ import annotations

import pytest

from local.broker.settings import Node, server_properties

PORTS = (9301, 9302, 9303)


def test_a_single_node_keeps_one_replica_of_each_partition() -> None:
    properties = server_properties(9092, 9093)
    assert properties["controller.quorum.voters"] == "1@127.0.0.1:9093"
    assert properties["default.replication.factor"] == properties["min.insync.replicas"] == "1"


@pytest.mark.parametrize("number", [1, 2, 3])
def test_three_nodes_share_their_voters_and_acknowledge_with_two_in_sync_replicas(number: int) -> None:
    properties = server_properties(9092, 9999, Node(number, PORTS))
    assert properties["controller.quorum.voters"] == "1@127.0.0.1:9301,2@127.0.0.1:9302,3@127.0.0.1:9303"
    assert properties["listeners"].endswith(f"CONTROLLER://127.0.0.1:{PORTS[number - 1]}")
    assert properties["node.id"] == str(number)
    assert properties["transaction.state.log.replication.factor"] == properties["default.replication.factor"] == "3"
    assert properties["transaction.state.log.min.isr"] == properties["min.insync.replicas"] == "2"


def test_nodes_of_one_cluster_format_their_storage_for_the_same_cluster() -> None:
    assert len({Node(number, PORTS).cluster_id for number in (1, 2, 3)}) == 1
    assert Node(1, PORTS).cluster_id != Node(1, (9401, 9402, 9403)).cluster_id
    assert Node().cluster_id is None
