-- Each of the three services keeps its books in a database of its own. Run once, when the server is set up.
CREATE DATABASE inventory;
CREATE DATABASE payment;
CREATE DATABASE shipment;
