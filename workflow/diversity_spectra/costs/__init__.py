"""What jobs cost: units of work, rates measured by past runs, and what a plan will take. Nothing here changes a result."""
