-- One database per team: no team reads another's.
CREATE DATABASE product;
CREATE DATABASE serving;
CREATE DATABASE monitoring;
CREATE DATABASE city;
CREATE DATABASE data;
CREATE DATABASE model;
