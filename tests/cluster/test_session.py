import pytest

from ltdd_ray.cluster.session import capacity, ray_session, require_capacity
from ltdd_ray.common.errors import UserError
from ltdd_ray.config import ComputeConfig


@pytest.mark.parametrize(
    ("nodes", "cpus", "gpus", "room"),
    [
        ([{"CPU": 2.0}], 1, 0, 2),
        ([{"CPU": 2.0}], 1, 1, 0),
        (
            [{"CPU": 3.0}, {"CPU": 3.0}],
            2,
            0,
            2,
        ),  # two nodes with one CPU left each do not hold a third
        ([{"CPU": 16.0, "GPU": 1.0}], 1, 0.1, 9),  # 9: as many as were asked about
        ([{"CPU": 1.0}], 0.1, 0, 9),
        ([{"CPU": 1.0}], 0, 0, 9),
        ([], 1, 0, 0),
    ],
)
def test_capacity(nodes: list[dict[str, float]], cpus: float, gpus: float, room: int) -> None:
    assert capacity(nodes, cpus, gpus, enough=9) == room


def test_a_machine_too_busy_for_ray_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def init(**settings: object) -> None:
        raise Exception(message)

    monkeypatch.setattr("ray.init", init)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    message = "The current node timed out during startup. This could happen because ..."
    with (
        pytest.raises(UserError, match=r"Ray did not start within its 30 s.* run the same command"),
        ray_session(ComputeConfig()),
    ):
        pass
    message = "another fault"
    with pytest.raises(Exception, match="another fault"), ray_session(ComputeConfig()):
        pass


@pytest.mark.ray
def test_too_many_actors_are_refused_with_the_remedy(ray_cluster: None) -> None:
    require_capacity("num_actors", 4, 1, 0)
    with pytest.raises(
        UserError,
        match=r"5 processes of 1 CPU.* have 4 CPU and 1 GPU, room for 4; "
        r"--set compute\.num_actors=4",
    ):
        require_capacity("num_actors", 5, 1, 0)
    with pytest.raises(UserError, match="room for 0; lower what each one asks for"):
        require_capacity("num_workers", 1, 1, 8)


@pytest.mark.ray
def test_a_session_within_a_session_leaves_ray_running(ray_cluster: None) -> None:
    import ray

    with ray_session(ComputeConfig(num_cpus=1)):
        assert ray.cluster_resources()["CPU"] == 4
    assert ray.is_initialized()
