"""Hosts on one machine: separate, killed, cut off, mended."""

import sys

import pytest

from tests.chaos.hosts import Hosts, permitted

WHERE = """
import sys, time, ray
ray.init(address=sys.argv[1], log_to_driver=False)
@ray.remote(num_cpus=1)
def where():
    time.sleep(1)
    return ray.util.get_node_ip_address()
print(set(ray.get([where.remote() for _ in range(2)])) == set(sys.argv[2:]))
"""


@pytest.mark.skipif(not permitted(), reason="the kernel permits no namespaces here")
@pytest.mark.cluster
def test_a_host_cut_off_is_given_up_and_lives_on_and_a_dead_one_can_be_replaced() -> None:
    with Hosts() as hosts:
        head = hosts.start_head()
        worker = hosts.start_worker()
        hosts.wait_for_nodes(2)
        done = hosts.run(
            head, [sys.executable, "-c", WHERE, hosts.address, head.ip, worker.ip], timeout=120
        )
        assert done.stdout.endswith("True\n"), done.stdout
        worker.cut()
        hosts.wait_for_nodes(1)
        assert hosts.find(worker, "/raylet/raylet ")  # alive, but nobody hears of it
        worker.kill()
        assert worker.pids() == []
        hosts.start_worker()
        hosts.wait_for_nodes(2)
    assert not any(host.alive for host in hosts.hosts)
