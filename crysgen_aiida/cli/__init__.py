"""The command line."""

import warnings

# AiiDA says this once, in its own words and with a source line, when the first command of a machine is run
warnings.filterwarnings("ignore", message="Creating AiiDA configuration folder")
