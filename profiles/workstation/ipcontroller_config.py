"""Let only this machine connect, and notice engines quickly."""

c = get_config()  # noqa: F821  # IPython defines it where it loads this file

c.IPController.ip = "127.0.0.1"
# in milliseconds; engines register on a heartbeat
c.HeartMonitor.period = 500
