"""Owns each instance's life: takes orders from its portal and has its nodes carry them out.

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
- ``driver``       a task for each instance that there is something to do for
- ``errands``      what a state calls for, carried out at a node
- ``nodes``        the lines to the nodes; ``watcher`` hears what they say
- ``portal_link``  the line to the portal
"""

from dit4c_p2p.scheduler.config import SchedulerConfig
from dit4c_p2p.scheduler.lifecycle import Limits
from dit4c_p2p.scheduler.scheduler import Scheduler
from dit4c_p2p.scheduler.store import database

__all__ = ["Limits", "Scheduler", "SchedulerConfig", "database"]
