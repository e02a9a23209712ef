//! Eureka's wire shapes: JSON and XML, exact to the byte.
