"""A Ray cluster on this machine: real nodes, one of which a test can kill."""

import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest


@pytest.fixture
def cluster() -> Iterator[Any]:
    """One node of one core; a test adds others, and may kill them."""
    from ray.cluster_utils import Cluster

    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    yield nodes
    nodes.shutdown()


@pytest.fixture
def kill_another(cluster: Any) -> Callable[[list[Any]], None]:
    """Give what kills one of some nodes, but not the one that this very process is a client of."""

    def kill(nodes: list[Any]) -> None:
        import ray

        # all have one address
        own = ray.get_runtime_context().get_node_id()
        cluster.remove_node(next(node for node in nodes if node.node_id != own), allow_graceful=False)

    return kill
