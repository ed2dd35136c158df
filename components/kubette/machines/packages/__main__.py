"""`python -m kubette.machines.packages apt-get …`: what the machines' scripts of these names call (see `machines.programs`)."""

import sys

from kubette.machines.packages import apt

sys.exit(apt.main(sys.argv[1], sys.argv[2:]))
