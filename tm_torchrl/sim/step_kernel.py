"""The kernel that plays the cars' actions."""

import warp as wp

import tm_torchrl.sim.state as s
from tm_torchrl.sim.car import Controls, tick
from tm_torchrl.sim.gates import Gates, passes_gate
from tm_torchrl.sim.ground import Ground, plot_of
from tm_torchrl.world.action_kernels import keys_of
from tm_torchrl.world.actions import TICK_MS

wp.set_module_options({"enable_backward": False, "fuse_fp": False})


@wp.kernel(enable_backward=False)
def advance_cars(
    state: wp.array2d(dtype=wp.float32),
    track_index: wp.array(dtype=wp.int32),
    actions: wp.array2d(dtype=wp.int64),
    ground: Ground,
    gates: Gates,
    ticks_per_slot: int,
):
    """Play every car's action slots, each for ``ticks_per_slot`` ticks."""
    b = wp.tid()
    track = track_index[b]
    plot = plot_of(ground, track)
    car = s.load_car(state, b)
    car.has_lateral_contact = 0.0  # any touch within the step counts
    race_time = state[b, s.RACE_TIME]
    count = state[b, s.CHECKPOINTS]
    checkpoint_time = state[b, s.CHECKPOINT_TIME]
    total = float(gates.total[track])
    controls = Controls()
    for slot in range(actions.shape[1]):
        keys = keys_of(int(actions[b, slot]))
        controls.gas = keys[0]
        controls.brake = keys[1]
        controls.steer = keys[2] - keys[3]
        for _ in range(ticks_per_slot):
            before = car.position
            car = tick(ground, plot, car, controls)
            race_time = race_time + float(TICK_MS)
            if count < total and passes_gate(gates, track, count, before, car.position):
                count = count + 1.0
                checkpoint_time = race_time
                car.is_freewheeling = 0.0
    s.store_car(state, b, car, controls.gas)
    state[b, s.RACE_TIME] = race_time
    state[b, s.CHECKPOINTS] = count
    state[b, s.CHECKPOINT_TIME] = checkpoint_time
    state[b, s.FINISHED] = wp.where(count >= total, 1.0, 0.0)
    state[b, s.INPUT_GAS] = controls.gas
    state[b, s.INPUT_BRAKE] = controls.brake
    state[b, s.INPUT_STEER] = -controls.steer
