"""HTTP of the portal: server, requests, responses and who sent them."""
