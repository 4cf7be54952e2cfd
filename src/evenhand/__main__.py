"""``python -m evenhand``, which launchers of several processes start. In: a command. Out: its exit code."""

from evenhand.cli.main import main

if __name__ == "__main__":
    main()
