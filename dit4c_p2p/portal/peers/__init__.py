"""What peers ask of the portal: published keys, the scheduler's link, an instance's own words."""
