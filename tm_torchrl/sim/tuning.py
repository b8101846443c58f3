"""The constants of the simulated car. It is a plausible model, not a copy of the game's, and claims no transfer.

Units: metres, seconds, radians; mass is 1 (the game normalises it too), so forces are accelerations.
"Public" marks figures that players and tool writers have published about the TMNF Stadium car
(see the table in ``tests/sim/test_sanity.py``); everything else is our choice.
"""

import warp as wp

TICK_S = wp.constant(0.01)

# Body
GRAVITY_GROUND = wp.constant(29.43)  # public: 3.0 x 9.81
GRAVITY_AIR = wp.constant(24.525)  # public: 2.5 x 9.81
MAX_SPEED = wp.constant(277.778)  # public: 1000 km/h
MAX_SPIN = wp.constant(20.0)
DRAG = wp.constant(0.00015)  # deceleration per squared speed
INERTIA_PITCH = wp.constant(1.6)
INERTIA_YAW = wp.constant(1.9)
INERTIA_ROLL = wp.constant(0.8)
SPIN_KEPT_GROUND = wp.constant(0.97)
SPIN_KEPT_AIR = wp.constant(0.97)  # otherwise noses would drop off ramps
SPIN_KEPT_AIR_BRAKE = wp.constant(0.85)  # the brake stops the car's rotation in the air
AIR_STEER = wp.constant(1.5)  # yaw acceleration by steering in the air
BELLY_M = wp.constant(0.20)  # lowest point of the body below its centre
BELLY_FRICTION = wp.constant(0.4)  # times the speed of impact
BELLY_DRAG = wp.constant(0.3)  # m/s added to it while the body drags on the ground

# Wheels and suspension
WHEEL_FRONT_M = wp.constant(1.45)
WHEEL_REAR_M = wp.constant(-1.30)
WHEEL_SIDE_M = wp.constant(0.85)
LEG_M = wp.constant(0.60)  # centre of the car to the ground with the strut fully out
SPRING = wp.constant(61.0)
SPRING_STOP = wp.constant(300.0)  # added beyond STOP_M
STOP_M = wp.constant(0.25)
DAMPER = wp.constant(6.0)
MAX_LOAD = wp.constant(120.0)
FORCE_ARM = wp.constant(0.92)  # in-plane tyre forces act this far up towards the centre, or the car would roll over
REST_COMPRESSION_M = wp.constant(0.1206)  # GRAVITY_GROUND / 4 / SPRING
REST_HEIGHT_M = 0.60 - 0.1206
DAMPER_AT_REST_M = wp.constant(0.01)  # public: typical reading, range 0.005 to 0.15
DAMPER_SCALE = wp.constant(0.4)

# Tyres: a wheel transmits at most (side friction / gravity) x load, less on loose ground
SIDE_FRICTION_SLOW = wp.constant(80.0)  # public: up to 100 km/h
SIDE_FRICTION_FAST = wp.constant(55.0)  # public: at 500 km/h
SLIP_STIFFNESS = wp.constant(20.0)
SLIP_MIN_SPEED = wp.constant(18.0)  # keeps the explicit step stable at low speed
SLIDE_BEGINS = wp.constant(2.6)  # normalised slip
SLIDE_ENDS = wp.constant(1.0)
SLIDE_GRIP = wp.constant(0.90)
REAR_GRIP = wp.constant(1.12)  # more behind than in front: the car straightens by itself
BRAKE_REAR_GRIP = wp.constant(0.35)  # braking at speed makes the rear slide: a drift
BRAKE_DRIFT_SPEED = wp.constant(25.0)
GRIP_DIRT = wp.constant(0.60)
GRIP_GRASS = wp.constant(0.45)
DRAG_DIRT = wp.constant(0.02)
DRAG_GRASS = wp.constant(0.12)
ROLLING = wp.constant(0.5)
ROLLING_GRASS = wp.constant(4.0)

# Steering
STEER_LOCK = wp.constant(0.45)
STEER_SHARE = wp.constant(0.88)  # of the side friction that full lock asks for
STEER_PER_TICK = wp.constant(0.10)  # of full lock

# Engine, gears, brakes
BRAKE = wp.constant(26.0)
REVERSE = wp.constant(8.0)
REVERSE_MAX_SPEED = wp.constant(12.0)
SHIFT_TICKS = wp.constant(15.0)
SHIFT_DRIVE = wp.constant(0.15)
GEAR_HYSTERESIS = wp.constant(5.0)  # m/s
GEAR_UP_1 = wp.constant(101.0 / 3.6)  # public: about 100-102, 161-162, 235, 341-342 km/h
GEAR_UP_2 = wp.constant(161.5 / 3.6)
GEAR_UP_3 = wp.constant(235.0 / 3.6)
GEAR_UP_4 = wp.constant(341.5 / 3.6)
GEAR_TOP = wp.constant(500.0 / 3.6)
RPM_IDLE = wp.constant(1500.0)
RPM_MAX = wp.constant(10000.0)  # public

# Turbo: times the engine's force at standstill, fading to nothing
TURBO_STRENGTH = wp.constant(5.0)  # public, 250 ms
TURBO_TICKS = wp.constant(25.0)
TURBO2_STRENGTH = wp.constant(20.0)  # public, 100 ms
TURBO2_TICKS = wp.constant(10.0)
TURBO_FORCE = wp.constant(16.0)

# Walls: two discs on the car's axis
WALL_DISC_M = wp.constant(0.95)
WALL_DISC_AT_M = wp.constant(1.30)
WALL_RESTITUTION = wp.constant(0.25)
WALL_FRICTION = wp.constant(0.2)
