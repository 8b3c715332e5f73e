"""Stage `report`: figures and the HTML report."""
