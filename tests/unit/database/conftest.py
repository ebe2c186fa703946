from lib.throwaway_component import project

__all__ = ["project"]
