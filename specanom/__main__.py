"The command `specanom` where the folder of scripts is not on the PATH: `python -m specanom`."

from .cli import main

if __name__ == '__main__':
    raise SystemExit(main())
