from support.throwaway import project

__all__ = ["project"]
