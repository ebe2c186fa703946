"""The scheduler: owns each instance's life, takes its portal's orders, and has its nodes do the
work.

    async with databases([database(config.data_folder)]):
        scheduler = Scheduler(SchedulerConfig(...))
        await scheduler.start()
        await scheduler.ready()     # the portal and a node are reached
        await scheduler.wait()      # raises if it can't go on
        await scheduler.stop()

- ``lifecycle``    pure: the table of states and events
- ``placement``    pure: which node an instance goes to
- ``reconcile``    pure: a node's pods compared with the instances
- ``store``        what is written down before it is acted on (``models``, ``migrations``)
- ``instance_tasks``  a task for each instance that needs work
- ``work_runner``  the work of a state, carried out at a node
- ``node_links``   connections to the nodes; ``node_events`` handles their events
- ``portal_link``  the connection to the portal
"""

from dit4c_p2p.scheduler.config import SchedulerConfig
from dit4c_p2p.scheduler.lifecycle import Limits
from dit4c_p2p.scheduler.scheduler import Scheduler
from dit4c_p2p.scheduler.store import scheduler_database

__all__ = ["Limits", "Scheduler", "SchedulerConfig", "scheduler_database"]
