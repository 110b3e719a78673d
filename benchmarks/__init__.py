"""RATIOS MEASURED SIDE BY SIDE: one file per benchmark, each with what it compares, what is asked, and why."""
